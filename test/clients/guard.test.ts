import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { createGuard } from '../../src/clients/guard.ts'
import { createSender, type Sender } from '../../src/clients/http-sender.ts'
import { startNameServer } from '../fixtures/name-server.ts'

const endings: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end()
})

async function listen(host: string, port = 0) {
  const hits: string[] = []
  const server: Server = createServer((request, response) => {
    hits.push(request.headers.host ?? '')
    response.setHeader('connection', 'close').end('ok')
  })
  server.listen(port, host)
  await once(server, 'listening')
  endings.push(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return { hits, port: (server.address() as AddressInfo).port }
}

async function nameServer(...answers: string[][]) {
  const server = await startNameServer(answers)
  endings.push(() => server.close())
  return server
}

function sender(options: Parameters<typeof createGuard>[0]): Sender {
  const made = createSender({ guard: createGuard(options), timeoutMs: 5_000 })
  endings.push(() => made.close())
  return made
}

const post = (by: Sender, url: string) => by.post({ url, headers: [], body: Buffer.from('{}') })

test('an address that a name server gives first is checked, dialled, and not asked for again', async () => {
  const open = await listen('127.0.0.2')
  const inner = await listen('127.0.0.1', open.port)
  const names = await nameServer(['127.0.0.2'], ['127.0.0.1'])
  const by = sender({ allowCidrs: ['127.0.0.2/32'], resolve: names.resolve })

  expect(await post(by, `http://rebind.test:${open.port}/`)).toMatchObject({ kind: 'answer', statusCode: 200 })
  expect(names.asked).toEqual(['rebind.test'])
  expect(await post(by, `http://rebind.test:${open.port}/`)).toMatchObject({
    kind: 'none',
    cause: 'refused',
    error: 'refused by the outbound guard: rebind.test resolves to 127.0.0.1, a loopback address',
  })
  expect(open.hits).toEqual([`rebind.test:${open.port}`])
  expect(inner.hits).toEqual([])
})

test.each([
  ['first', ['127.0.0.1', '127.0.0.2']],
  ['last', ['127.0.0.2', '127.0.0.1']],
  ['beside a public one', ['93.184.216.34', '127.0.0.1']],
])('one bad address %s refuses the whole name', async (_, answer) => {
  const open = await listen('127.0.0.2')
  const inner = await listen('127.0.0.1', open.port)
  const names = await nameServer(answer)
  const by = sender({ allowCidrs: ['127.0.0.2/32'], resolve: names.resolve })
  expect(await post(by, `http://mixed.test:${open.port}/`)).toMatchObject({ kind: 'none', cause: 'refused' })
  expect([...open.hits, ...inner.hits]).toEqual([])
})

test.each([
  '127.0.0.1',
  '127.1',
  '0x7f.1',
  '0x7f000001',
  '2130706433',
  '0177.1',
  '0',
  '[::1]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[::127.0.0.1]',
  'localhost',
  'a.localhost',
])('nothing reaches the machine itself as %s', async (host) => {
  const inner = await listen('::')
  const result = await post(sender({}), `http://${host}:${inner.port}/`)
  expect(result).toMatchObject({ kind: 'none', cause: 'refused' })
  expect(inner.hits).toEqual([])
})

test.each(['127.0.0.2', '0x7f.2', '2130706434', '[::ffff:127.0.0.2]', '[::1]', 'localhost'])(
  'what is allowed is reached as %s',
  async (host) => {
    const inner = await listen('::')
    const by = sender({ allowCidrs: ['127.0.0.0/8', '::1/128'] })
    expect(await post(by, `http://${host}:${inner.port}/`)).toMatchObject({ kind: 'answer', statusCode: 200 })
    expect(inner.hits).toHaveLength(1)
  },
)

test('the connector refuses by itself, whoever uses it', async () => {
  const connect = createGuard().connector({ timeoutMs: 1_000 })
  const target = { hostname: '127.0.0.1', host: '127.0.0.1:9', protocol: 'http:', port: '9' }
  const error = await new Promise((resolve) => connect(target, (...[failure]) => resolve(failure)))
  expect(error).toMatchObject({
    code: 'refused',
    message: 'refused by the outbound guard: 127.0.0.1 is a loopback address',
  })
})

test('a name that is being resolved is asked for once, however many want it', async () => {
  const open = await listen('127.0.0.2')
  const names = await nameServer(['127.0.0.2'])
  const by = sender({ allowCidrs: ['127.0.0.2/32'], resolve: names.resolve })
  const results = await Promise.all(Array.from({ length: 20 }, () => post(by, `http://busy.test:${open.port}/`)))
  expect(results.every((result) => result.kind === 'answer')).toBe(true)
  expect(names.asked).toEqual(['busy.test'])
})

test('a name nobody knows is told apart from a refused one', async () => {
  const names = await nameServer([])
  const result = await post(sender({ resolve: names.resolve }), 'http://nowhere.test/')
  expect(result).toMatchObject({ kind: 'none', cause: 'network', error: 'host not found: nowhere.test' })
})
