import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createGuard } from '../../src/clients/guard.ts'
import { createSender, type Sender, type SenderOptions } from '../../src/clients/http-sender.ts'
import { startNameServer, type NameAnswer, type NameAnswerer } from '../fixtures/name-server.ts'

const endings: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end()
})

const closing: RequestListener = (_, response) => void response.setHeader('connection', 'close').end('ok')
const keeping: RequestListener = (_, response) => void response.end('ok')

/** Counts requests, and connections that never became one. */
async function listen(host: string, port = 0, answer = closing) {
  const hits: string[] = []
  const connections: unknown[] = []
  const server: Server = createServer((request, response) => {
    hits.push(request.headers.host ?? '')
    answer(request, response)
  })
  server.on('connection', (socket) => connections.push(socket))
  server.listen(port, host)
  await once(server, 'listening')
  endings.push(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return { hits, connections, server, port: (server.address() as AddressInfo).port }
}

/** 127.0.0.2 stands for the public network, 127.0.0.1 for the inner one. */
async function outerAndInner(answer = closing) {
  const outer = await listen('127.0.0.2', 0, answer)
  const inner = await listen('127.0.0.1', outer.port)
  return { outer, inner, port: outer.port }
}
const outside = ['127.0.0.2/32']

async function nameServer(...answers: NameAnswer[] | [NameAnswerer]) {
  const [first] = answers
  const server = await startNameServer(typeof first === 'function' ? first : (answers as NameAnswer[]))
  endings.push(() => server.close())
  return server
}

function sender(guard: Parameters<typeof createGuard>[0], options: Partial<SenderOptions> = {}): Sender {
  const made = createSender({ guard: createGuard(guard), timeoutMs: 5_000, ...options })
  endings.push(() => made.close())
  return made
}

const post = (by: Sender, url: string) => by.post({ url, headers: [], body: Buffer.from('{}') })
const refused = { kind: 'none', cause: 'refused' }

describe('a name', () => {
  test('whose address changes after it was checked is dialled where it was checked', async () => {
    const { outer, inner, port } = await outerAndInner()
    const names = await nameServer(['127.0.0.2'], ['127.0.0.1'])
    const by = sender({ allowCidrs: outside, resolve: names.resolve })

    expect(await post(by, `http://rebind.test:${port}/`)).toMatchObject({ kind: 'answer', statusCode: 200 })
    expect(names.asked).toEqual(['rebind.test'])
    expect(await post(by, `http://rebind.test:${port}/`)).toMatchObject({
      ...refused,
      error: 'refused by the outbound guard: rebind.test resolves to 127.0.0.1, a loopback address',
    })
    expect(outer.hits).toEqual([`rebind.test:${port}`])
    expect(inner.connections).toEqual([])
  })

  test('that moves inside while its connection is kept goes on outside, and is refused afterwards', async () => {
    const { outer, inner, port } = await outerAndInner(keeping)
    const names = await nameServer(['127.0.0.2'], ['127.0.0.1'])
    const by = sender({ allowCidrs: outside, resolve: names.resolve })
    const url = `http://moves.test:${port}/`
    for (let n = 0; n < 3; n++) {
      expect(await post(by, url)).toMatchObject({ kind: 'answer' })
      // undici rests a connection for one turn of the event loop.
      await new Promise(setImmediate)
    }
    expect(names.asked).toHaveLength(1)
    expect(outer.connections).toHaveLength(1)

    outer.server.closeAllConnections()
    await vi.waitFor(async () => expect(await post(by, url)).toMatchObject(refused))
    expect(inner.connections).toEqual([])
  })

  test('that moves is followed even while its old connection is kept busy', async () => {
    const old = await listen('127.0.0.2', 0, keeping)
    const next = await listen('127.0.0.3', old.port, keeping)
    const names = await nameServer(['127.0.0.2'], ['127.0.0.3'])
    const by = sender({ allowCidrs: ['127.0.0.2/31'], resolve: names.resolve }, { maxConnectionAgeMs: 1 })
    await vi.waitFor(async () => {
      await post(by, `http://moves.test:${old.port}/`)
      expect(next.hits.length).toBeGreaterThan(0)
    })
    expect(old.hits.length).toBeGreaterThan(0)
  })

  test.each<[string, NameAnswer]>([
    ['with the inner address first', ['127.0.0.1', '127.0.0.2']],
    ['with the inner address last', ['127.0.0.2', '127.0.0.1']],
    ['with an inner address among many', [...Array.from({ length: 20 }, () => '127.0.0.2'), '127.0.0.1']],
    ['with a truly public address beside the inner one', ['93.184.216.34', '127.0.0.1']],
    ['with an inner v6 address beside the public v4 one', ['127.0.0.2', '::1']],
    ['with an inner v6 address alone', ['::1']],
    ['with a v4-mapped inner address', ['::ffff:7f00:1']],
    ['with a NAT64 inner address', ['64:ff9b::7f00:1']],
    ['with a NAT64 form of the allowed address', ['64:ff9b::7f00:2']],
    ['with a 6to4 form of the allowed address', ['2002:7f00:2::1']],
    ['with a v4-compatible form of the allowed address', ['::7f00:2']],
    ['with the unspecified address', ['0.0.0.0']],
    ['that is an alias of an alias of an inner one', { aliases: ['cdn.test', 'inner.test'], ips: ['127.0.0.1'] }],
    ['with the address of a cloud metadata service', ['169.254.169.254']],
  ])('%s is refused as a whole', async (_, answer) => {
    const { outer, inner, port } = await outerAndInner()
    const v6 = await listen('::1', port)
    const names = await nameServer(answer)
    const by = sender({ allowCidrs: outside, resolve: names.resolve })
    expect(await post(by, `http://mixed.test:${port}/`)).toMatchObject(refused)
    expect([...outer.connections, ...inner.connections, ...v6.connections]).toEqual([])
  })

  test('that is an alias is dialled where it leads, and called what it was called', async () => {
    const { outer, port } = await outerAndInner()
    const names = await nameServer({ aliases: ['cdn.test', 'edge.test'], ips: ['127.0.0.2'] })
    const by = sender({ allowCidrs: outside, resolve: names.resolve })
    expect(await post(by, `http://shop.test:${port}/`)).toMatchObject({ kind: 'answer' })
    expect(outer.hits).toEqual([`shop.test:${port}`])
  })

  test('that resolves to an inner address after the deadline is not dialled', async () => {
    const { outer, inner, port } = await outerAndInner()
    let release = () => {}
    const late = new Promise<NameAnswer>((resolve) => (release = () => resolve(['127.0.0.1'])))
    const names = await nameServer((name) => (name === 'late.test' ? late : ['127.0.0.2']))
    const hasty = sender({ allowCidrs: outside, resolve: names.resolve }, { timeoutMs: 200 })
    expect(await post(hasty, `http://late.test:${port}/`)).toMatchObject({
      cause: 'timeout',
      error: 'timed out after 0.2 s while looking up late.test',
    })
    release()
    expect(await post(hasty, `http://prompt.test:${port}/`)).toMatchObject({ kind: 'answer' })
    expect(outer.hits).toEqual([`prompt.test:${port}`])
    expect(inner.connections).toEqual([])
  })

  test('that is being resolved is asked for once, however many want it', async () => {
    const { port } = await outerAndInner()
    const names = await nameServer(['127.0.0.2'])
    const by = sender({ allowCidrs: outside, resolve: names.resolve })
    const results = await Promise.all(Array.from({ length: 20 }, () => post(by, `http://busy.test:${port}/`)))
    expect(results.every((result) => result.kind === 'answer')).toBe(true)
    expect(names.asked).toEqual(['busy.test'])
  })

  test('whose lookup never ends is asked for anew', async () => {
    const { port } = await outerAndInner()
    const lookups = [new Promise<string[]>(() => {}), Promise.resolve(['127.0.0.2'])]
    const resolve = () => lookups.shift() ?? Promise.reject(new Error('asked too often'))
    const by = sender({ allowCidrs: outside, resolve }, { timeoutMs: 200 })
    expect(await post(by, `http://dead.test:${port}/`)).toMatchObject({ cause: 'timeout' })
    await vi.waitFor(async () => expect(await post(by, `http://dead.test:${port}/`)).toMatchObject({ kind: 'answer' }))
  })

  test('that nobody knows is told apart from a refused one', async () => {
    const names = await nameServer([])
    const result = await post(sender({ resolve: names.resolve }), 'http://nowhere.test/')
    expect(result).toMatchObject({ kind: 'none', cause: 'network', error: 'host not found: nowhere.test' })
  })
})

describe('an address in the URL', () => {
  test.each([
    '127.0.0.1',
    '127.1',
    '0x7f.1',
    '0x7f000001',
    '2130706433',
    '0177.1',
    '127.0.0.1.',
    '%31%32%37.0.0.1',
    '１２７.０.０.１',
    '0',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::127.0.0.1]',
    'localhost',
    'localhost.',
    'LOCALHOST',
    'a.localhost',
    'user:pass@127.0.0.1',
    'example.com@127.0.0.1',
  ])('nothing reaches the machine itself as %s', async (host) => {
    const inner = await listen('::')
    expect(await post(sender({}), `http://${host}:${inner.port}/`)).toMatchObject(refused)
    expect(inner.connections).toEqual([])
  })

  test.each([
    '127.0.0.2',
    '0x7f.2',
    '0x7f000002',
    '0177.2',
    '2130706434',
    '[::ffff:127.0.0.2]',
    '[::ffff:7f00:2]',
    '[::1]',
    'localhost',
  ])('what is allowed is reached as %s', async (host) => {
    const inner = await listen('::')
    const by = sender({ allowCidrs: ['127.0.0.0/8', '::1/128'] })
    expect(await post(by, `http://${host}:${inner.port}/`)).toMatchObject({ kind: 'answer', statusCode: 200 })
    expect(inner.hits).toHaveLength(1)
  })

  test.each([
    '127.0.0.3',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '[64:ff9b::7f00:2]',
    '[2002:7f00:2::]',
    '[::7f00:2]',
    '[2001::80ff:fffd]',
  ])('what is allowed opens nothing beside it: %s', async (host) => {
    const inner = await listen('::')
    expect(await post(sender({ allowCidrs: outside }), `http://${host}:${inner.port}/`)).toMatchObject(refused)
    expect(inner.connections).toEqual([])
  })

  test('is checked by the connector itself, whoever uses it', async () => {
    const connect = createGuard().connector({ timeoutMs: 1_000 })
    const target = { hostname: '127.0.0.1', host: '127.0.0.1:9', protocol: 'http:', port: '9' }
    const error = await new Promise((resolve) => connect(target, (...[failure]) => resolve(failure)))
    expect(error).toMatchObject({
      code: 'refused',
      message: 'refused by the outbound guard: 127.0.0.1 is a loopback address',
    })
  })
})

describe('no way around', () => {
  test.each([300, 301, 302, 303, 307, 308])('leads through a redirect with %d', async (status) => {
    const inner = await listen('127.0.0.1')
    const outer = await listen('127.0.0.2', 0, (_, response) => {
      response
        .writeHead(status, {
          location: `http://127.0.0.1:${inner.port}/`,
          refresh: `0;url=http://127.0.0.1:${inner.port}/`,
        })
        .end()
    })
    const result = await post(sender({ allowCidrs: outside }), `http://127.0.0.2:${outer.port}/`)
    expect(result).toMatchObject({ kind: 'answer', statusCode: status })
    expect(outer.hits).toHaveLength(1)
    expect(inner.connections).toEqual([])
  })

  test('leads through a proxy of the environment', async () => {
    const proxy = await listen('127.0.0.1')
    const outer = await listen('127.0.0.2')
    for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'all_proxy']) {
      vi.stubEnv(name, `http://127.0.0.1:${proxy.port}`)
    }
    vi.stubEnv('NODE_USE_ENV_PROXY', '1')
    vi.stubEnv('NO_PROXY', '')
    const result = await post(sender({ allowCidrs: outside }), `http://127.0.0.2:${outer.port}/`)
    vi.unstubAllEnvs()
    expect(result).toMatchObject({ kind: 'answer', statusCode: 200 })
    expect(outer.hits).toHaveLength(1)
    expect(proxy.connections).toEqual([])
  })

  test('leads through an alternative service', async () => {
    const inner = await listen('127.0.0.1')
    const outer = await listen('127.0.0.2', 0, (_, response) => {
      response.writeHead(421, { 'alt-svc': `h2="127.0.0.1:${inner.port}"`, connection: 'close' }).end()
    })
    const by = sender({ allowCidrs: outside })
    for (let n = 0; n < 2; n++) {
      expect(await post(by, `http://127.0.0.2:${outer.port}/`)).toMatchObject({ statusCode: 421 })
    }
    expect(outer.hits).toHaveLength(2)
    expect(inner.connections).toEqual([])
  })
})
