import { once } from 'node:events'
import { createServer as createTlsServer } from 'node:https'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createGuard } from '../../src/clients/guard.ts'
import { createSender, type Sender, type SenderOptions } from '../../src/clients/http-sender.ts'
import { testCertificate } from '../fixtures/certificate.ts'
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

/** A TCP server that does as it likes with each connection. */
async function rawServer(onSocket: (socket: Socket) => void): Promise<{ url: string; sockets: Socket[] }> {
  const sockets: Socket[] = []
  const server: Server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    onSocket(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  endings.push(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, sockets }
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
    expect(await post('nonsense')).toMatchObject({ kind: 'none', cause: 'unusable', error: 'the URL is not one' })
    expect(await post('ftp://example.com/')).toMatchObject({ kind: 'none', cause: 'unusable' })
  })
})

describe('an answer', () => {
  test('is given with its status, words and Retry-After', async () => {
    receiver.answer(() => ({ status: 503, body: 'later ✓', headers: { 'retry-after': '120' } }))
    const result = await post(receiver.url)
    expect(result).toEqual({
      kind: 'answer',
      statusCode: 503,
      retryAfter: '120',
      bodyText: 'later ✓',
      durationMs: expect.any(Number),
    })
  })

  test('that redirects is not followed', async () => {
    receiver.answer(() => ({ status: 302, headers: { location: `${receiver.url}/elsewhere` } }))
    expect(await post(receiver.url)).toMatchObject({ statusCode: 302 })
    expect(receiver.requests).toHaveLength(1)
  })

  test('without a body has none', async () => {
    expect(await post(receiver.url)).toMatchObject({ statusCode: 204, bodyText: null, retryAfter: null })
  })

  test('is kept up to 16 KiB, in whole characters', async () => {
    receiver.answer(() => ({ status: 200, body: `a${'ü'.repeat(20_000)}` }))
    const result = await post(receiver.url)
    const text = result.kind === 'answer' ? (result.bodyText ?? '') : ''
    expect(Buffer.byteLength(text)).toBe(16_383)
    expect(text).toBe(`a${'ü'.repeat(8_191)}`)
  })

  test('without end is read up to 64 KiB, then the connection is dropped', async () => {
    let wrote = 0
    const { url, sockets } = await rawServer((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
        const more = () => {
          if (socket.destroyed) return
          wrote += 4_096
          if (socket.write(`1000\r\n${'x'.repeat(4_096)}\r\n`)) setImmediate(more)
          else socket.once('drain', more)
        }
        more()
      })
    })
    const result = await post(url)
    expect(result).toMatchObject({ kind: 'answer', statusCode: 200, bodyText: 'x'.repeat(16_384) })
    await vi.waitFor(() => expect(sockets[0]?.destroyed).toBe(true))
    expect(wrote).toBeLessThan(16 * 1024 * 1024)
  })

  test('that is not text is only named', async () => {
    receiver.answer(() => ({ status: 200, body: Buffer.alloc(300, 0xff), headers: { 'content-type': 'image/png' } }))
    expect(await post(receiver.url)).toMatchObject({ bodyText: '[binary answer, image/png]' })
  })

  test('after a hint (103) is the one that counts', async () => {
    const { url } = await rawServer((socket) => {
      socket.once('data', () =>
        socket.write(
          'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n',
        ),
      )
    })
    expect(await post(url)).toMatchObject({ kind: 'answer', statusCode: 202 })
  })

  test('that refuses counts even when its body breaks off', async () => {
    const { url } = await rawServer((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nhalf', () => socket.destroy())
      })
    })
    expect(await post(url)).toMatchObject({ kind: 'answer', statusCode: 500, bodyText: 'half' })
  })

  test('that accepts counts only when it is complete', async () => {
    const { url } = await rawServer((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf', () => socket.destroy())
      })
    })
    const error = 'answered 200, but connection closed before the answer was complete'
    expect(await post(url)).toMatchObject({ kind: 'none', cause: 'network', error })
  })
})

describe('the deadline', () => {
  const impatient = (options = {}) => make({ timeoutMs: 150, ...options })

  async function expectTimeout(url: string, by: Sender, words = 'timed out after 0.15 s') {
    const startedAt = performance.now()
    expect(await post(url, by)).toMatchObject({ kind: 'none', cause: 'timeout', error: expect.stringContaining(words) })
    const tookMs = performance.now() - startedAt
    expect(tookMs).toBeGreaterThan(140)
    expect(tookMs).toBeLessThan(1_500)
  }

  test('covers DNS, and what resolves too late is not sent', async () => {
    let answer: (ips: string[]) => void = () => {}
    const resolve = () => new Promise<string[]>((done) => (answer = done))
    await expectTimeout(receiver.url.replace('127.0.0.1', 'slow.test'), impatient({ resolve }))
    answer(['127.0.0.1'])
    // A later request on the same path is the sign that the late one had its chance.
    await post(receiver.url)
    expect(receiver.requests).toHaveLength(1)
  })

  test('covers TLS', async () => {
    const { url } = await rawServer(() => {})
    await expectTimeout(url.replace('http:', 'https:'), impatient())
  })

  test('covers the headers', async () => {
    receiver.answer(() => 'hang')
    await expectTimeout(receiver.url, impatient())
  })

  test('covers headers that trickle', async () => {
    const { url } = await rawServer((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\n')
        const timer = setInterval(() => socket.write('x-a: b\r\n'), 10)
        socket.on('close', () => clearInterval(timer))
      })
    })
    await expectTimeout(url, impatient())
  })

  test('covers a body that trickles, and drops the connection', async () => {
    const { url, sockets } = await rawServer((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n')
        const timer = setInterval(() => socket.write('x'), 10)
        socket.on('close', () => clearInterval(timer))
      })
    })
    await expectTimeout(url, impatient(), 'answered 200, but timed out after 0.15 s')
    await vi.waitFor(() => expect(sockets[0]?.destroyed).toBe(true))
  })

  test('covers the wait for a free connection', async () => {
    receiver.answer(() => 'hang')
    const one = impatient({ maxConnectionsPerOrigin: 1 })
    await Promise.all([expectTimeout(receiver.url, one), expectTimeout(receiver.url, one)])
  })
})

describe('a failure', () => {
  test('tells a refused connection', async () => {
    await receiver.close()
    expect(await post(receiver.url)).toMatchObject({ kind: 'none', cause: 'network', error: 'connection refused' })
    expect(await post(receiver.url.replace('127.0.0.1', 'localhost'))).toMatchObject({ error: 'connection refused' })
  })

  test('tells a reset connection', async () => {
    receiver.answer(() => 'reset')
    expect(await post(receiver.url)).toMatchObject({ cause: 'network', error: 'connection reset' })
  })

  test('tells a connection that was closed', async () => {
    const { url } = await rawServer((socket) => socket.once('data', () => socket.end()))
    expect(await post(url)).toMatchObject({ cause: 'network', error: 'connection closed' })
  })

  test('tells an answer that is not HTTP', async () => {
    const { url } = await rawServer((socket) => socket.once('data', () => socket.end('SSH-2.0-OpenSSH_9.9\r\n')))
    expect(await post(url)).toMatchObject({ cause: 'network', error: 'the answer is not HTTP' })
  })

  test('tells a server without TLS', async () => {
    expect(await post(receiver.url.replace('http:', 'https:'))).toMatchObject({
      cause: 'network',
      error: 'no TLS connection possible',
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
      error: 'host not found for now: no.test',
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
    const at = (host: string) => `https://${host}:${(server.address() as AddressInfo).port}/`
    expect(await post(at('receiver.test'), make({ resolve }))).toMatchObject({
      cause: 'network',
      error: 'certificate is self-signed',
    })
    const trusting = make({ resolve, ca: testCertificate.cert })
    expect(await post(at('other.test'), trusting)).toMatchObject({
      error: 'certificate is for another host than other.test',
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
