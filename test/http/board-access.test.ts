import { readdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { appRoutes } from '@bull-board/api/dist/routes.js'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { startRedis, type RedisServer } from '../fixtures/redis.ts'
import { asOlga, asRosa, credentials, openBoard, type Board } from './board-fixture.ts'

const queuePath = '/api/queues/deliver-webhook'
const pause = `/admin/queues${queuePath}/pause`
let board: Board
beforeAll(async () => {
  board = await openBoard('postgres')
})
afterEach(() => board.reset())
afterAll(() => board.close())

async function withBoard(
  options: Parameters<typeof openBoard>[1],
  test: (board: Board) => Promise<void>,
  kind: 'postgres' | 'redis' = 'postgres',
) {
  const other = await openBoard(kind, options)
  try {
    await test(other)
  } finally {
    await other.close()
  }
}

describe('who may open the board', () => {
  it('asks for a name and password, and lets in only who has them', async () => {
    const strangers = [
      {},
      credentials('olga', 'wrong'),
      credentials('nobody', 'öffne:dich'),
      { authorization: 'Bearer abc' },
      { authorization: 'Basic ' },
      credentials('', ''),
    ]
    for (const headers of strangers) {
      for (const url of ['/admin/queues', '/admin/queues/api/queues', '/admin/queues/static/favicon.ico']) {
        const response = await board.app.inject({ url, headers })
        expect([url, response.statusCode]).toEqual([url, 401])
        expect(response.headers['www-authenticate']).toMatch(/^Basic realm=/)
      }
    }
    for (const headers of [asOlga, asRosa])
      expect((await board.app.inject({ url: '/admin/queues', headers })).statusCode).toBe(200)
  })

  it('is closed without users, and says how to open it', async () => {
    await withBoard({ users: [] }, async (closed) => {
      const response = await closed.app.inject({ url: '/admin/queues', headers: asOlga })
      expect(response.statusCode).toBe(403)
      expect(response.json().detail).toContain('BOARD_USERS')
    })
  })

  it('is open without users on loopback, under a loopback name alone', async () => {
    await withBoard({ users: [], open: true }, async (local) => {
      const get = (host: string) => local.app.inject({ url: '/admin/queues/api/queues', headers: { host } })
      for (const host of ['localhost:3000', '127.0.0.1:3000', '[::1]:3000'])
        expect((await get(host)).statusCode).toBe(200)
      for (const host of ['rebound.example:3000', 'localhost.example', '127.0.0.1.example'])
        expect((await get(host)).statusCode).toBe(403)
      expect((await local.call('PUT', `${queuePath}/pause`, {})).statusCode).toBe(200)
    })
  })

  it('takes changes from its own page alone', async () => {
    const put = (headers: object) =>
      board.app.inject({ method: 'PUT', url: pause, headers: { host: 'board.example', ...asOlga, ...headers } })
    const foreign = [
      {},
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { origin: 'https://other.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site', origin: 'https://board.example' },
    ]
    for (const headers of foreign) expect((await put(headers)).statusCode).toBe(403)
    expect(await board.queue.isPaused()).toBe(false)
    for (const headers of [{ 'sec-fetch-site': 'same-origin' }, { origin: 'https://board.example' }])
      expect((await put(headers)).statusCode).toBe(200)
    expect(await board.queue.isPaused()).toBe(true)
  })
})

describe('what a user may do', () => {
  it('shows a reader everything as read-only and refuses every change', async () => {
    const item = await board.addItem({ nextAt: new Date(Date.now() + 60_000) })
    const id = await board.ring(item)
    const { queues } = (await board.call('GET', '/api/queues', asRosa)).json()
    expect(queues).toHaveLength(2)
    for (const queue of queues)
      expect(queue).toMatchObject({ readOnlyMode: true, allowRetries: false, allowCompletedRetries: false })
    for (const path of [`${id}/promote`, `${id}/retry`, `${id}/clean`, 'retry/failed', 'promote', 'pause', 'resume']) {
      expect([path, (await board.call('PUT', `${queuePath}/${path}`, asRosa)).statusCode]).toEqual([path, 403])
    }
    expect(await board.item(item.id)).toEqual(item)
    expect(await board.queue.getJobState(id)).toBe('delayed')
    expect(await board.queue.isPaused()).toBe(false)
  })

  it('refuses each change Bull Board knows but this one does not offer', async () => {
    const offered: string[] = []
    for (const { method, route } of appRoutes.api) {
      if (method === 'get') continue
      const path = `${route}`
        .replace(':queueName', 'deliver-webhook')
        .replace(':queueStatus', 'failed')
        .replace(/:\w+/, '1-1')
      const response = await board.call(`${method}`.toUpperCase() as 'PUT', path)
      if (response.statusCode === 403)
        expect(response.json()).toEqual({ error: 'Not offered here', message: expect.any(String) })
      else offered.push(path.replace('/api/queues/deliver-webhook/', ''))
    }
    expect(offered.toSorted()).toEqual([
      '1-1/clean',
      '1-1/promote',
      '1-1/retry',
      'pause',
      'promote',
      'resume',
      'retry/failed',
    ])
  })
})

describe('the page', () => {
  it('loads nothing from elsewhere, nor lets another page frame it', async () => {
    const page = await board.call('GET', '/queue/deliver-webhook')
    const addresses = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map((match) => match[1] ?? '')
    expect(addresses.length).toBeGreaterThan(5)
    expect(addresses.filter((address) => /^(https?:)?\/\//.test(address))).toEqual([])
    expect(page.headers['content-security-policy']).toMatch(/default-src 'self';.*frame-ancestors 'none'/)
    for (const address of addresses.filter((path) => path !== '/admin/queues/')) {
      expect([address, (await board.call('GET', `/${address}`)).statusCode]).toEqual([address, 200])
    }
  })

  it('says in English what its buttons do here, and keeps other languages', async () => {
    const words = async (language: string) =>
      (await board.call('GET', `/static/locales/${language}/messages.json?v=1`)).json()
    const [english, german] = [await words('en-US'), await words('de-DE')]
    expect(english.JOB.ACTIONS).toMatchObject({ CLEAN: 'Remove', RETRY: 'Retry', PROMOTE: 'Run now' })
    expect(english.QUEUE.ACTIONS.PAUSE).toBe('Pause')
    expect(german.JOB.ACTIONS.CLEAN).not.toBe('Remove')
    expect((await board.call('GET', '/static/locales/xx-XX/messages.json')).statusCode).toBe(404)
    expect((await board.call('GET', '/static/locales/..%2f..%2f/messages.json')).statusCode).toBe(404)
  })

  it('hides the refused changes by icons the page still draws', async () => {
    const { body: css } = await board.call('GET', '/board.css')
    const icons = new Set([...css.matchAll(/\.lucide-([a-z0-9-]+)/g)].map((match) => match[1]))
    const scripts = await pageScripts()
    for (const icon of icons) expect([icon, scripts.includes(`"${icon}"`)]).toEqual([icon, true])
  })

  it('says that the queue is away instead of failing, and is back with it', async () => {
    const redis = await startRedis()
    try {
      await withBoard({ redisUrl: redis.url }, (other) => loseAndRegain(other, redis), 'redis')
    } finally {
      await redis.stop()
    }
  })
})

async function loseAndRegain(other: Board, redis: RedisServer): Promise<void> {
  await redis.kill()
  await vi.waitFor(() => expect(other.backend.ready()).toBe(false))
  const response = await other.call('GET', '/api/queues')
  expect([response.statusCode, response.json().title]).toEqual([503, 'The queue is away'])
  expect((await other.call('PUT', `${queuePath}/pause`)).statusCode).toBe(503)
  expect((await other.call('GET', '/')).statusCode).toBe(200)
  await redis.restart()
  await vi.waitFor(() => expect(other.backend.ready()).toBe(true), { timeout: 5_000 })
  expect((await other.call('GET', '/api/queues')).statusCode).toBe(200)
}

/** Every script the page may load. */
async function pageScripts(): Promise<string> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('@bull-board/ui/package.json')), 'dist/static/js')
  const files = await readdir(folder, { recursive: true })
  return (
    await Promise.all(files.filter((file) => file.endsWith('.js')).map((file) => readFile(join(folder, file), 'utf8')))
  ).join('\n')
}
