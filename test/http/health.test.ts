import { once } from 'node:events'
import { connect } from 'node:net'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createDatabase, type Database } from '../../src/db/client.ts'
import { createApi, secrets, withKey, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let gone: ApiFixture
let closedPort: Database

async function findClosedPort(): Promise<number> {
  const { createServer } = await import('node:net')
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

beforeAll(async () => {
  api = await createApi()
  closedPort = createDatabase({ url: `postgres://nobody@127.0.0.1:${await findClosedPort()}/none` })
  gone = await createApi({ db: closedPort.db })
})
afterAll(async () => {
  await Promise.all([api.close(), gone.close(), closedPort.close()])
})

const lead = (seconds: number) =>
  api.db.execute(sql`
    INSERT INTO website_worker.leader (id, until) VALUES (1, now() + ${seconds} * interval '1 second')
    ON CONFLICT (id) DO UPDATE SET until = excluded.until`)

describe('/readyz', () => {
  beforeEach(() => {
    Object.assign(api.state, { queueReady: true, shuttingDown: false })
  })

  it('is ok while a dispatcher is at work and the queue answers', async () => {
    await lead(5)
    const response = await api.app.inject('/readyz')
    expect(response.statusCode).toBe(200)
    expect(response.json()).toEqual({ status: 'ok', checks: { postgres: 'ok', queue: 'ok', progress: 'ok' } })
  })

  it('is degraded, and still 200, without a queue or a dispatcher', async () => {
    await lead(5)
    api.state.queueReady = false
    const noQueue = await api.app.inject('/readyz')
    expect([noQueue.statusCode, noQueue.json()]).toEqual([
      200,
      { status: 'degraded', checks: { postgres: 'ok', queue: 'down', progress: 'ok' } },
    ])
    api.state.queueReady = true
    await lead(-5)
    const noLeader = await api.app.inject('/readyz')
    expect([noLeader.statusCode, noLeader.json()]).toEqual([
      200,
      { status: 'degraded', checks: { postgres: 'ok', queue: 'ok', progress: 'down' } },
    ])
  })

  it('is 503 while shutting down', async () => {
    api.state.shuttingDown = true
    const response = await api.app.inject('/readyz')
    expect([response.statusCode, response.json().status]).toEqual([503, 'unavailable'])
  })

  it('is 503 within about a second when Postgres does not answer', async () => {
    const waiting = await createApi({ db: { execute: () => new Promise(() => {}) } as never })
    try {
      const startedAt = performance.now()
      const response = await waiting.app.inject('/readyz')
      expect(response.statusCode).toBe(503)
      expect(response.json().checks).toEqual({ postgres: 'down', queue: 'ok', progress: 'down' })
      expect(performance.now() - startedAt).toBeLessThan(3_000)
    } finally {
      await waiting.close()
    }
  })
})

describe('with Postgres away', () => {
  it.each([
    ['POST', '/v1/events', { siteId: 1, event: 'order.created', data: 1 }],
    ['POST', '/v1/events/batch', { events: [{ siteId: 1, event: 'order.created', data: 1 }] }],
    ['POST', '/v1/jobs/sync-products', { siteId: 1 }],
    ['GET', '/v1/jobs/sync-products/1', undefined],
    ['POST', '/v1/jobs/sync-products/1/retry', undefined],
    ['GET', '/v1/webhooks/1', undefined],
    ['GET', '/v1/webhooks/1/deliveries', undefined],
    ['GET', '/v1/deliveries/1', undefined],
    ['POST', '/v1/deliveries/1/cancel', undefined],
    ['POST', '/v1/sites/1/pause', { domain: 'webhooks' }],
  ] as const)('%s %s is a quick 503 that says when to ask again', async (method, url, body) => {
    const response = await gone.send(method, url, body, { 'idempotency-key': 'k' })
    expect(response.statusCode, response.body).toBe(503)
    expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(Number(response.headers['retry-after'])).toBeGreaterThan(0)
    expect(gone.rung).toEqual([])
  })

  it('is alive and not ready, and still refuses what is wrong', async () => {
    expect((await gone.app.inject('/healthz')).json()).toEqual({ status: 'ok' })
    expect((await gone.app.inject('/readyz')).statusCode).toBe(503)
    expect((await gone.send('POST', '/v1/events', {})).statusCode).toBe(422)
  })
})

it('/metrics are those of Prometheus, for anyone', async () => {
  const response = await api.app.inject('/metrics')
  expect(response.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
  expect(response.body).toBe('up 1\n')
})

describe('over a socket', () => {
  let port: number
  beforeAll(async () => {
    await api.app.listen({ host: '127.0.0.1', port: 0 })
    ;({ port } = api.app.server.address() as { port: number })
  })

  async function exchange(text: string): Promise<string> {
    const socket = connect(port, '127.0.0.1')
    socket.write(text)
    let answer = ''
    socket.on('data', (chunk) => (answer += chunk))
    await once(socket, 'close')
    return answer
  }

  it('answers a client', async () => {
    const response = await fetch(`http://127.0.0.1:${port}/v1/webhooks/1`, {
      headers: { ...withKey(secrets.both), connection: 'close' },
    })
    expect(response.status).toBe(404)
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    await response.text()
  })

  it.each([
    ['what is not HTTP', 'hello\r\n\r\n', 400],
    ['headers that are too long', `GET / HTTP/1.1\r\nhost: a\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    ['an impossible length', 'POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n', 400],
  ])('refuses %s with a problem', async (_, text, status) => {
    const answer = await exchange(text)
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(JSON.parse(answer.split('\r\n\r\n')[1]!)).toMatchObject({ status })
  })

  it('refuses a body that says it is too long before it is sent', async () => {
    const answer = await exchange(
      `POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${secrets.both}\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n{`,
    )
    expect(answer).toMatch(/^HTTP\/1.1 413 /)
  })
})
