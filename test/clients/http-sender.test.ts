import { once } from 'node:events'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createGuard } from '../../src/clients/guard.ts'
import { createSender, type Sender, type SenderOptions } from '../../src/clients/http-sender.ts'
import { testCertificate } from '../fixtures/certificate.ts'
import { startRawServer } from '../fixtures/raw-server.ts'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'

const endings: (() => Promise<unknown>)[] = []
let receiver: Receiver
let sender: Sender

beforeEach(async () => {
  receiver = await startReceiver()
  endings.push(() => receiver.close())
  sender = make()
})
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end()
})

function make(options: Partial<SenderOptions> & { resolve?: (name: string) => Promise<string[]> } = {}): Sender {
  const { resolve, ...rest } = options
  const guard = createGuard({ allowCidrs: ['127.0.0.0/8', '::1/128'], ...(resolve && { resolve }) })
  const made = createSender({ guard, timeoutMs: 5_000, ...rest })
  endings.push(() => made.close())
  return made
}

async function rawServer(onSocket: (socket: Socket) => void) {
  const server = await startRawServer(onSocket)
  endings.push(server.close)
  return server
}

const body = Buffer.from('{"a":"ü"}')
const post = (url: string, by = sender, extra: { headers?: string[]; signal?: AbortSignal } = {}) =>
  by.post({ url, headers: [], body, ...extra })

describe('a request', () => {
  test('carries the exact bytes, our headers and the custom ones', async () => {
    const named = make({ userAgent: 'website-worker/1.2.3' })
    await post(`${receiver.url}/hook?x=%20y`, named, { headers: ['webhook-id', 'evt_1', 'X-Shop', 'seven'] })
    const [request] = receiver.requests
    expect(request).toMatchObject({ method: 'POST', path: '/hook?x=%20y', body })
    expect(request?.headers).toMatchObject({
      host: `127.0.0.1:${receiver.port}`,
      'content-type': 'application/json',
      'content-length': String(body.length),
      'user-agent': 'website-worker/1.2.3',
      'webhook-id': 'evt_1',
      'x-shop': 'seven',
    })
  })

  test('turns user and password of the URL into basic authentication, unless the webhook sets its own', async () => {
    const url = receiver.url.replace('//', '//us%C3%A9r:p%40ss@')
    await post(url)
    await post(url, sender, { headers: ['Authorization', 'Bearer x'] })
    const sent = receiver.requests.map((request) => request.headers.authorization)
    expect(sent).toEqual([`Basic ${Buffer.from('usér:p@ss').toString('base64')}`, 'Bearer x'])
  })

  /** Answers when the body is there, `delayMs` later. */
  const answering = (delayMs: number) => (socket: Socket) =>
    socket.on('data', (data) => {
      if (data.includes(body)) setTimeout(() => socket.write('HTTP/1.1 204 No Content\r\n\r\n'), delayMs)
    })

  test('goes over a connection that is already open', async () => {
    const { url, sockets } = await rawServer(answering(0))
    for (let n = 0; n < 10; n++) expect(await post(url)).toMatchObject({ statusCode: 204 })
    // undici rests a connection for one turn of the event loop, so posts without a pause take turns on two.
    expect(sockets.length).toBeLessThanOrEqual(2)
  })

  test('keeps to the connections an origin may have', async () => {
    const { url, sockets } = await rawServer(answering(5))
    const narrow = make({ maxConnectionsPerOrigin: 2 })
    await Promise.all(Array.from({ length: 10 }, () => post(url, narrow)))
    expect(sockets).toHaveLength(2)
  })

  test('with a header that cannot be sent is unusable', async () => {
    const result = await post(receiver.url, sender, { headers: ['x', 'a\r\nb: c'] })
    expect(result).toMatchObject({ kind: 'none', cause: 'unusable', error: expect.stringContaining("can't be sent") })
    expect(receiver.requests).toEqual([])
  })

  test('to what is no web address is unusable', async () => {
    expect(await post('nonsense')).toMatchObject({
      kind: 'none',
      cause: 'unusable',
      error: 'the URL is not a web address',
    })
    expect(await post('ftp://example.com/')).toMatchObject({ kind: 'none', cause: 'unusable' })
  })
})

describe('a failure', () => {
  test('tells a refused connection', async () => {
    await receiver.close()
    expect(await post(receiver.url)).toMatchObject({
      kind: 'none',
      cause: 'network',
      error: `could not reach 127.0.0.1:${receiver.port}: connection refused`,
    })
    expect(await post(receiver.url.replace('127.0.0.1', 'localhost'))).toMatchObject({
      error: `could not reach localhost:${receiver.port}: connection refused`,
    })
  })

  test('tells a reset connection', async () => {
    receiver.answer(() => 'reset')
    expect(await post(receiver.url)).toMatchObject({
      cause: 'network',
      error: 'connection reset before an answer came',
    })
  })

  test('tells a connection that was closed', async () => {
    const { url } = await rawServer((socket) => socket.once('data', () => socket.end()))
    expect(await post(url)).toMatchObject({ cause: 'network', error: 'connection closed before an answer came' })
  })

  test('tells an answer that is not HTTP', async () => {
    const { url } = await rawServer((socket) => socket.once('data', () => socket.end('SSH-2.0-OpenSSH_9.9\r\n')))
    expect(await post(url)).toMatchObject({ cause: 'network', error: 'the answer is not HTTP' })
  })

  test('tells a server without TLS', async () => {
    expect(await post(receiver.url.replace('http:', 'https:'))).toMatchObject({
      cause: 'network',
      error: `no secure connection to 127.0.0.1:${receiver.port}: it does not speak TLS on this port`,
    })
  })

  test('tells an unknown host, and a name server that does not answer', async () => {
    const failing = (code: string) => make({ resolve: () => Promise.reject(Object.assign(new Error(code), { code })) })
    expect(await post('http://no.test/', failing('ENOTFOUND'))).toMatchObject({
      cause: 'network',
      error: 'host not found: no.test',
    })
    expect(await post('http://no.test/', failing('EAI_AGAIN'))).toMatchObject({
      cause: 'network',
      error: 'could not look up no.test: no answer from the name servers',
    })
  })

  test('tells what is wrong with a certificate', async () => {
    const server = createTlsServer(testCertificate, (_, response) => response.end('secure'))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    endings.push(async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    })
    const resolve = () => Promise.resolve(['127.0.0.1'])
    const { port } = server.address() as AddressInfo
    const at = (host: string) => `https://${host}:${port}/`
    expect(await post(at('receiver.test'), make({ resolve }))).toMatchObject({
      cause: 'network',
      error: `no secure connection to receiver.test:${port}: its certificate is self-signed`,
    })
    const trusting = make({ resolve, ca: testCertificate.cert })
    expect(await post(at('other.test'), trusting)).toMatchObject({
      error: `no secure connection to other.test:${port}: its certificate is for another host`,
    })
    expect(await post(at('receiver.test'), trusting)).toMatchObject({
      kind: 'answer',
      statusCode: 200,
      bodyText: 'secure',
    })
  })
})

describe('stopping', () => {
  test('by a signal ends what is under way, many at once', async () => {
    receiver.answer(() => 'hang')
    const stop = new AbortController()
    const results = Array.from({ length: 30 }, () => post(receiver.url, sender, { signal: stop.signal }))
    await receiver.waitFor(30)
    stop.abort()
    for (const result of await Promise.all(results)) expect(result).toMatchObject({ kind: 'none', cause: 'aborted' })
    expect(await post(receiver.url, sender, { signal: stop.signal })).toMatchObject({ cause: 'aborted' })
    expect(receiver.requests).toHaveLength(30)
  })

  test('by closing ends what is under way', async () => {
    receiver.answer(() => 'hang')
    const result = post(receiver.url)
    await receiver.waitFor(1)
    await sender.close()
    expect(await result).toMatchObject({ kind: 'none', cause: 'aborted' })
    expect(await post(receiver.url)).toMatchObject({ cause: 'aborted' })
  })
})
