import type { Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { createGuard } from '../../src/clients/guard.ts'
import { createJsonCaller, type JsonCaller, type JsonCallerOptions } from '../../src/clients/json-call.ts'
import { startRawServer } from '../fixtures/raw-server.ts'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'

const endings: (() => Promise<unknown>)[] = []
let receiver: Receiver
let caller: JsonCaller

beforeEach(async () => {
  receiver = await startReceiver(() => ({ status: 201, body: '{"id":7}' }))
  endings.push(() => receiver.close())
  caller = makeCaller()
})
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end()
})

function makeCaller(options: Partial<JsonCallerOptions> = {}) {
  const made = createJsonCaller({ guard: createGuard({ allowCidrs: ['127.0.0.1/32'] }), timeoutMs: 5_000, ...options })
  endings.push(() => made.close())
  return made
}

async function rawServer(onSocket: (socket: Socket) => void) {
  const server = await startRawServer(onSocket)
  endings.push(server.close)
  return server.url
}

const schema = z.object({ id: z.number() })
const post = (url: string, more: object = {}, by = caller) =>
  by.call({ method: 'POST', url: new URL(url), body: { a: 'ü' }, schema, ...more })

describe('a call', () => {
  test('carries JSON and our headers, and gives what fits the schema', async () => {
    const result = await post(`${receiver.url}/leads?x=1`, { headers: { authorization: 'Bearer t' } })
    expect(result).toEqual({ kind: 'answer', statusCode: 201, value: { id: 7 }, durationMs: expect.any(Number) })
    const [request] = receiver.requests
    expect(request).toMatchObject({ method: 'POST', path: '/leads?x=1' })
    expect(request!.headers).toMatchObject({
      accept: 'application/json',
      'content-type': 'application/json',
      authorization: 'Bearer t',
      'user-agent': 'website-worker',
    })
    expect(JSON.parse(request!.body.toString())).toEqual({ a: 'ü' })
  })

  test('without a body is a plain GET', async () => {
    await caller.call({ method: 'GET', url: new URL(receiver.url), schema })
    const [request] = receiver.requests
    expect(request!.method).toBe('GET')
    expect(request!.headers).not.toHaveProperty('content-type')
  })

  test('goes over a connection of its own where that is wished', async () => {
    const fresh = makeCaller({ freshConnections: true })
    await post(receiver.url, {}, fresh)
    expect(receiver.requests[0]!.headers.connection).toBe('close')
    expect(await post(receiver.url, {}, fresh)).toMatchObject({ kind: 'answer' })
  })
})

describe('an answer', () => {
  test.each([
    [400, false, 'answered 400 Bad Request: no such pipeline'],
    [409, false, 'answered 409 Conflict: no such pipeline'],
    [408, true, 'answered 408 Request Timeout: no such pipeline'],
    [500, true, 'answered 500 Internal Server Error: no such pipeline'],
    [302, true, 'answered 302 Found: redirects are not followed, so the URL must be the final one'],
  ])('of %i says so, and whether it may have worked (%s)', async (status, mayHaveWorked, error) => {
    receiver.answer(() => ({ status, body: 'no such\r\npipeline', headers: { location: `${receiver.url}/other` } }))
    expect(await post(receiver.url)).toMatchObject({ kind: 'error', statusCode: status, error, mayHaveWorked })
    expect(receiver.requests).toHaveLength(1)
  })

  test('that asks to wait is heard', async () => {
    receiver.answer(() => ({ status: 429, headers: { 'retry-after': '7' } }))
    expect(await post(receiver.url)).toMatchObject({ kind: 'error', retryAfterMs: 7_000, mayHaveWorked: false })
  })

  test.each([
    ['<html>', 'answered 200, but the answer is not JSON'],
    ['', 'answered 200, but the answer is empty'],
    ['{"id":"x"}', /^answered 200, but the answer is not what it should be: id: /],
    ['null', /^answered 200, but the answer is not what it should be: Invalid/],
  ])('of %j may have worked, but says nothing', async (body, error) => {
    receiver.answer(() => ({ status: 200, body }))
    expect(await post(receiver.url)).toMatchObject({
      kind: 'error',
      mayHaveWorked: true,
      error: typeof error === 'string' ? error : expect.stringMatching(error),
    })
  })

  test('is read up to its limit and no further', async () => {
    receiver.answer(() => ({ status: 200, body: JSON.stringify({ id: 1, more: 'x'.repeat(5_000) }) }))
    expect(await post(receiver.url, {}, makeCaller({ maxBytes: 1_000 }))).toMatchObject({
      kind: 'none',
      mayHaveWorked: true,
      error: 'answered 200, but with more than 1000 bytes',
    })
  })

  test('that breaks off after its status is a refusal if that is one', async () => {
    const url = await rawServer((socket) =>
      socket.once('data', () => socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 50\r\n\r\nno')),
    )
    expect(await post(url)).toMatchObject({ kind: 'error', statusCode: 404, mayHaveWorked: false })
  })
})

describe('no answer', () => {
  test('may have worked when the connection is cut after the request', async () => {
    receiver.answer(() => 'reset')
    expect(await post(receiver.url)).toMatchObject({ kind: 'none', cause: 'network', mayHaveWorked: true })
  })

  test('may have worked when the deadline passes', async () => {
    receiver.answer(() => 'hang')
    expect(await post(receiver.url, { timeoutMs: 100 })).toMatchObject({
      kind: 'none',
      cause: 'timeout',
      mayHaveWorked: true,
      error: 'timed out after 0.1 s while waiting for an answer',
    })
  })

  test('has surely not worked when nobody listens', async () => {
    await receiver.close()
    expect(await post(receiver.url)).toMatchObject({ kind: 'none', cause: 'network', mayHaveWorked: false })
  })

  test.each([
    ['http://127.0.0.2:9/', 'refused', '127.0.0.2 is a loopback address'],
    ['http://10.0.0.1/', 'refused', '10.0.0.1 is a private address'],
    ['ftp://crm.example/', 'unusable', 'ftp:'],
  ])('has surely not worked when the guard refuses %s', async (url, cause, words) => {
    expect(await post(url)).toMatchObject({
      kind: 'none',
      cause,
      mayHaveWorked: false,
      error: expect.stringContaining(words),
    })
  })

  test('has surely not worked when it was stopped before it began', async () => {
    expect(await post(receiver.url, { signal: AbortSignal.abort() })).toMatchObject({
      kind: 'none',
      cause: 'aborted',
      mayHaveWorked: false,
    })
    expect(receiver.requests).toEqual([])
  })

  test('comes at once when it is stopped on the way', async () => {
    receiver.answer(() => 'hang')
    const stop = new AbortController()
    const result = post(receiver.url, { signal: stop.signal })
    await receiver.waitFor(1)
    stop.abort()
    expect(await result).toMatchObject({ kind: 'none', cause: 'aborted', mayHaveWorked: true })
  })
})
