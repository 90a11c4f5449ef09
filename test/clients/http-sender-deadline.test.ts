import { getEventListeners } from 'node:events'
import type { Socket } from 'node:net'
import { afterEach, expect, test, vi } from 'vitest'
import { createGuard } from '../../src/clients/guard.ts'
import { createSender, type Sender, type SenderOptions } from '../../src/clients/http-sender.ts'
import { startNameServer } from '../fixtures/name-server.ts'
import { startFullListener, startRawServer } from '../fixtures/raw-server.ts'

const endings: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end()
})

interface Options extends Partial<SenderOptions> {
  resolve?: (name: string) => Promise<readonly string[]>
}

function make({ resolve, ...options }: Options = {}): Sender {
  const guard = createGuard({ allowCidrs: ['127.0.0.0/8'], ...(resolve && { resolve }) })
  const made = createSender({ guard, timeoutMs: 400, ...options })
  endings.push(() => made.close())
  return made
}

async function rawServer(onSocket: (socket: Socket) => void) {
  const server = await startRawServer(onSocket)
  endings.push(server.close)
  return server
}

const post = (by: Sender, url: string, signal?: AbortSignal) =>
  by.post({ url, headers: [], body: Buffer.from('{}'), ...(signal && { signal }) })
const late = (error: string) => ({ kind: 'none', cause: 'timeout', error })
const clientSockets = () => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length

/** Writes a little, again and again, until the connection is cut. */
function trickle(socket: Socket, text: string): void {
  const timer = setInterval(() => socket.write(text), 20)
  socket.once('close', () => clearInterval(timer))
}

const answering = (head: string, more: string) => (socket: Socket) => {
  socket.once('data', () => {
    socket.write(head)
    trickle(socket, more)
  })
}

test('covers the lookup of a name whose name server never answers', async () => {
  const names = await startNameServer(() => 'silence')
  endings.push(() => names.close())
  const by = make({ resolve: names.resolve })
  expect(await post(by, 'http://silent.test/')).toMatchObject(
    late('timed out after 0.4 s while looking up silent.test'),
  )
})

test('covers connecting to one who accepts nobody, and leaves no socket behind', async () => {
  const full = await startFullListener()
  endings.push(full.close)
  const before = clientSockets()
  const result = await post(make(), `http://127.0.0.1:${full.port}/`)
  expect(result).toMatchObject(late(`timed out after 0.4 s while connecting to 127.0.0.1:${full.port}`))
  await vi.waitFor(() => expect(clientSockets()).toBeLessThanOrEqual(before), 5_000)
})

test('covers the TLS handshake, and drops the connection', async () => {
  const server = await rawServer(() => {})
  const result = await post(make(), `https://127.0.0.1:${server.port}/`)
  expect(result).toMatchObject(late(`timed out after 0.4 s during the TLS handshake with 127.0.0.1:${server.port}`))
  await vi.waitFor(() => expect(server.sockets[0]?.destroyed).toBe(true), 5_000)
})

const head = 'HTTP/1.1 200 OK\r\n'
test.each<[string, (socket: Socket) => void, string]>([
  ['an answer that never comes', () => {}, 'timed out after 0.4 s while waiting for an answer'],
  ['a status line that trickles', answering('HTTP/1.', '1'), 'the answer is not HTTP'],
  ['headers that trickle', answering(head, 'x-a: b\r\n'), 'timed out after 0.4 s while waiting for an answer'],
  [
    'hints that never end',
    answering('', 'HTTP/1.1 103 Early Hints\r\n\r\n'),
    'timed out after 0.4 s while waiting for an answer',
  ],
  [
    'a body that trickles',
    answering(`${head}content-length: 9999\r\n\r\n`, 'x'),
    'answered 200, but timed out after 0.4 s before the answer was complete',
  ],
  [
    'chunks that trickle',
    answering(`${head}transfer-encoding: chunked\r\n\r\n`, '1\r\nx\r\n'),
    'answered 200, but timed out after 0.4 s before the answer was complete',
  ],
  [
    'trailers that trickle',
    answering(`${head}transfer-encoding: chunked\r\n\r\n0\r\n`, 'x-a: b\r\n'),
    'answered 200, but timed out after 0.4 s before the answer was complete',
  ],
])('covers %s, and drops the connection', async (_, onSocket, error) => {
  const server = await rawServer(onSocket)
  expect(await post(make(), server.url)).toMatchObject({ kind: 'none', error })
  await vi.waitFor(() => expect(server.sockets.map((socket) => socket.destroyed)).toEqual([true]))
})

test('covers a receiver that reads nothing of what it is sent', async () => {
  const server = await rawServer((socket) => socket.pause())
  const by = make()
  const body = Buffer.alloc(50_000_000)
  expect(await by.post({ url: server.url, headers: [], body })).toMatchObject(
    late('timed out after 0.4 s while waiting for an answer'),
  )
})

test('a refusal whose body trickles counts as the refusal it is', async () => {
  const server = await rawServer(answering('HTTP/1.1 503 Later\r\nretry-after: 7\r\ncontent-length: 99\r\n\r\n', 'x'))
  expect(await post(make(), server.url)).toMatchObject({ kind: 'answer', statusCode: 503, retryAfter: '7' })
  await vi.waitFor(() => expect(server.sockets[0]?.destroyed).toBe(true))
})

test('covers the wait for a free connection', async () => {
  const server = await rawServer(() => {})
  const by = make({ maxConnectionsPerOrigin: 1 })
  const results = await Promise.all(Array.from({ length: 3 }, () => post(by, server.url)))
  for (const result of results) expect(result).toMatchObject({ kind: 'none', cause: 'timeout' })
})

test('many at once leave no timer, no listener and no connection behind', async () => {
  const warnings: Error[] = []
  const warn = (warning: Error) => warnings.push(warning)
  process.on('warning', warn)
  const server = await rawServer(answering(head, 'x-a: b\r\n'))
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()
  const { signal } = new AbortController()
  const by = make()
  for (let round = 0; round < 3; round++) {
    const results = await Promise.all(Array.from({ length: 200 }, () => post(by, server.url, signal)))
    expect(new Set(results.map(({ kind }) => kind))).toEqual(new Set(['none']))
  }
  expect(getEventListeners(signal, 'abort').length).toBeLessThanOrEqual(1)
  // What was dialled for those that gave up meanwhile is kept for a while, as any idle connection.
  await vi.waitFor(() => {
    expect(server.sockets.filter((socket) => !socket.destroyed)).toEqual([])
    expect(timers()).toBeLessThanOrEqual(before + 2)
  }, 10_000)
  process.off('warning', warn)
  expect(warnings).toEqual([])
})

test('closing ends at once while connections are being made', async () => {
  const full = await startFullListener()
  endings.push(full.close)
  const by = make({ timeoutMs: 60_000 })
  const result = post(by, `http://127.0.0.1:${full.port}/`)
  await vi.waitFor(() => expect(clientSockets()).toBeGreaterThan(8))
  await by.close()
  expect(await result).toMatchObject({ kind: 'none', cause: 'aborted' })
})
