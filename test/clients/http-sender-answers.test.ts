import type { Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createGuard } from '../../src/clients/guard.ts'
import { createSender, type Sender } from '../../src/clients/http-sender.ts'
import { startRawServer } from '../fixtures/raw-server.ts'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'

const endings: (() => Promise<unknown>)[] = []
let receiver: Receiver
let sender: Sender

beforeEach(async () => {
  receiver = await startReceiver()
  endings.push(() => receiver.close())
  sender = createSender({ guard: createGuard({ allowCidrs: ['127.0.0.0/8'] }), timeoutMs: 5_000 })
  endings.push(() => sender.close())
})
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end()
})

async function rawServer(onSocket: (socket: Socket) => void) {
  const server = await startRawServer(onSocket)
  endings.push(server.close)
  return server
}

const post = (url: string) => sender.post({ url, headers: [], body: Buffer.from('{}') })

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

  /** What becomes of an answer given as it goes over the wire. */
  async function answered(...wire: (string | Buffer)[]) {
    const { url, sockets } = await rawServer((socket) => {
      socket.once('data', () => {
        for (const part of wire) socket.write(part)
      })
    })
    return { result: await post(url), url, sockets }
  }
  const head = (status: string, ...lines: string[]) => [`HTTP/1.1 ${status}`, ...lines, '', ''].join('\r\n')

  test('that is compressed is not unpacked', async () => {
    const bomb = gzipSync(Buffer.alloc(10_000_000))
    for (const encoding of ['gzip', 'deflate', 'br', 'zstd']) {
      const headers = { 'content-encoding': encoding, 'content-type': 'text/html; charset=utf-8' }
      receiver.answer(() => ({ status: 200, body: bomb, headers }))
      expect(await post(receiver.url)).toMatchObject({ statusCode: 200, bodyText: '[binary answer, text/html]' })
    }
    expect(receiver.requests[0]?.headers).not.toHaveProperty('accept-encoding')
  })

  test.each([
    ['broken UTF-8', Buffer.from([0x6f, 0x6b, 0xc3, 0x28]), 'ok\uFFFD('],
    ['NUL', Buffer.from('a\0b'), 'a\uFFFDb'],
    ['half a surrogate pair', Buffer.from([0x61, 0xed, 0xa0, 0x80]), 'a\uFFFD\uFFFD\uFFFD'],
    ['a character cut in two', Buffer.from([0x61, 0xe2, 0x9c]), 'a\uFFFD'],
    ['nothing', Buffer.alloc(0), null],
  ])('with %s is kept as PostgreSQL can store it', async (_, bytes, bodyText) => {
    receiver.answer(() => ({ status: 500, body: bytes }))
    expect(await post(receiver.url)).toMatchObject({ statusCode: 500, bodyText })
  })

  test.each(['204 No Content', '304 Not Modified'])('%s with a body ends at its headers', async (status) => {
    const { result, url } = await answered(head(status, 'content-length: 5'), 'HTTP/1.1 200 OK\r\n\r\n')
    expect(result).toMatchObject({ kind: 'answer', statusCode: Number.parseInt(status), bodyText: null })
    expect(await post(url)).toMatchObject({ statusCode: Number.parseInt(status) })
  })

  test('that is followed by another one stands, and the other one answers nothing', async () => {
    let requests = 0
    const { url, sockets } = await rawServer((socket) => {
      socket.on('data', (data) => {
        if (!data.includes('POST')) return
        requests += 1
        if (requests === 1)
          socket.write(`${head('500 No', 'content-length: 2')}no${head('200 OK', 'content-length: 0')}`)
        else socket.write(head('503 Later', 'content-length: 0'))
      })
    })
    expect(await post(url)).toMatchObject({ statusCode: 500, bodyText: 'no' })
    expect(await post(url)).toMatchObject({ statusCode: 503 })
    await vi.waitFor(() => expect(sockets[0]?.destroyed).toBe(true))
  })

  test('in a form of its own is not one', async () => {
    const words = async (...wire: string[]) => {
      const { result } = await answered(...wire)
      return result.kind === 'none' ? `${result.cause}: ${result.error}` : result.statusCode
    }
    const misfit = 'network: the answer does not fit the request'
    const notHttp = 'network: the answer is not HTTP'
    const wrongLength = 'network: the answer is not as long as it says'
    expect(await words(head('101 Switching Protocols', 'upgrade: websocket', 'connection: upgrade'))).toBe(misfit)
    expect(await words(head('100 Continue'))).toBe(misfit)
    expect(await words(head('200 OK', 'x: a\0b'))).toBe(notHttp)
    expect(await words(head('200 OK', 'content-length: 1', 'content-length: 2'))).toBe(wrongLength)
    expect(await words(head('200 OK', 'content-length: 1', 'transfer-encoding: chunked'))).toBe(wrongLength)
    expect(await words(head('200 OK', 'content-length: -1'))).toBe(notHttp)
    expect(await words(head('99 What'))).toBe(notHttp)
    expect(await words(head('200 OK', 'transfer-encoding: chunked'), 'zz\r\n')).toBe(
      'network: answered 200, but the answer is not HTTP',
    )
    expect(await words(head('500 No', 'transfer-encoding: chunked'), 'zz\r\n')).toBe(500)
  })

  test('with more headers than anyone needs is dropped', async () => {
    const error = 'the answer has too many headers'
    const one = await answered(head('200 OK', `x: ${'y'.repeat(20_000)}`))
    expect(one.result).toMatchObject({ kind: 'none', cause: 'network', error })
    const many = await answered(head('200 OK', ...Array.from({ length: 5_000 }, (_, n) => `x-${n}: y`)))
    expect(many.result).toMatchObject({ kind: 'none', cause: 'network', error })
    await vi.waitFor(() => expect(many.sockets[0]?.destroyed).toBe(true))
  })

  test('with a header twice gives the first', async () => {
    const { result } = await answered(head('503 Later', 'retry-after: 7', 'Retry-After: 9', 'content-length: 0'))
    expect(result).toMatchObject({ statusCode: 503, retryAfter: '7' })
  })

  test('that ends with its connection is complete', async () => {
    const { url } = await rawServer((socket) => {
      socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\ndone'))
    })
    expect(await post(url)).toMatchObject({ kind: 'answer', statusCode: 200, bodyText: 'done' })
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
