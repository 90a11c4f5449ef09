import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient, WorkerApiError, type Client } from '../../src/client/index.ts'

interface Request {
  method: string
  path: string
  headers: IncomingMessage['headers']
  body: string
}

let server: Server
let client: Client
let requests: Request[]
let answer: (request: Request, response: ServerResponse) => void

beforeEach(async () => {
  requests = []
  server = createServer(async (incoming, response) => {
    let body = ''
    for await (const chunk of incoming) body += chunk
    const request = { method: incoming.method!, path: incoming.url!, headers: incoming.headers, body }
    requests.push(request)
    answer(request, response)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  client = createClient({ url: `${address()}/base/`, apiKey: 'key', timeoutMs: 5_000 })
})
afterEach(async () => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

const address = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
const send = (response: ServerResponse, status: number, body: unknown) => {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

test('sends each call where the API expects it', async () => {
  answer = (_, response) => send(response, 200, { items: [], nextCursor: null })
  await client.emitEvent({ siteId: 1, event: 'order.created', data: 1, occurredAt: new Date(0) })
  await client.enqueue('publish-page', { pageId: 1 }, { idempotencyKey: 'abc' })
  await client.getJob('publish-page', 2)
  await client.retryJob('publish-page', 2)
  await client.cancelJob('a/b', 2)
  await client.getWebhook(3)
  await client.listDeliveries({ siteId: 4 }).next()
  await client.getDelivery(5)
  await client.retryDelivery(5)
  await client.cancelDelivery(5)
  await client.replayWebhook(3, { since: new Date(0), until: '2026-01-01T00:00:00Z', status: 'held' })
  await client.pingWebhook(3)
  await client.cancelPendingDeliveries(3)
  expect(requests.map(({ method, path, body }) => `${method} ${path} ${body}`.trim())).toEqual([
    'POST /base/v1/events {"siteId":1,"event":"order.created","data":1,"occurredAt":"1970-01-01T00:00:00.000Z"}',
    'POST /base/v1/jobs/publish-page {"pageId":1}',
    'GET /base/v1/jobs/publish-page/2',
    'POST /base/v1/jobs/publish-page/2/retry',
    'POST /base/v1/jobs/a%2Fb/2/cancel',
    'GET /base/v1/webhooks/3',
    'GET /base/v1/sites/4/deliveries',
    'GET /base/v1/deliveries/5',
    'POST /base/v1/deliveries/5/retry',
    'POST /base/v1/deliveries/5/cancel',
    'POST /base/v1/webhooks/3/replay {"since":"1970-01-01T00:00:00.000Z","until":"2026-01-01T00:00:00Z","status":"held"}',
    'POST /base/v1/webhooks/3/ping',
    'POST /base/v1/webhooks/3/cancel-pending',
  ])
  expect(requests.every(({ headers }) => headers.authorization === 'Bearer key')).toBe(true)
  expect(requests.map(({ headers }) => headers['idempotency-key'])).toContain('abc')
  expect(requests[0]!.headers['content-type']).toBe('application/json')
})

test('splits many events into requests that the API takes, and keeps their order', async () => {
  answer = ({ body }, response) => {
    const { events } = JSON.parse(body) as { events: { id: string }[] }
    send(response, 200, { results: events.map(({ id }) => ({ outcome: 'accepted', eventId: id, deliveries: [] })) })
  }
  const event = (n: number, data: unknown) => ({ siteId: 1, event: 'order.created' as const, data, id: `e${n}` })
  const small = Array.from({ length: 2_500 }, (_, n) => event(n, n))
  const results = await client.emitEvents(small)
  expect(results.map((result) => 'eventId' in result && result.eventId)).toEqual(small.map(({ id }) => id))
  expect(requests).toHaveLength(3)

  requests = []
  const large = Array.from({ length: 50 }, (_, n) => event(n, 'ü'.repeat(125_000)))
  expect(await client.emitEvents(large)).toHaveLength(50)
  expect(requests).toHaveLength(2)
  expect(await client.emitEvents([])).toEqual([])
})

test('walks the pages of a list only as far as it is read', async () => {
  answer = ({ path }, response) => {
    const page = Number(new URL(path, address()).searchParams.get('cursor') ?? 0)
    send(response, 200, {
      items: [{ id: page * 2 }, { id: page * 2 + 1 }],
      nextCursor: page < 2 ? String(page + 1) : null,
    })
  }
  const ids: number[] = []
  for await (const { id } of client.listDeliveries({ webhookId: 7, status: 'failed' })) ids.push(id)
  expect(ids).toEqual([0, 1, 2, 3, 4, 5])
  expect(requests.map(({ path }) => path)).toEqual([
    '/base/v1/webhooks/7/deliveries?status=failed',
    '/base/v1/webhooks/7/deliveries?status=failed&cursor=1',
    '/base/v1/webhooks/7/deliveries?status=failed&cursor=2',
  ])

  requests = []
  for await (const { id } of client.listDeliveries({ webhookId: 7 })) if (id === 1) break
  expect(requests).toHaveLength(1)
})

test('throws what the API answered', async () => {
  const problem = { type: 'about:blank', title: 'Conflict', status: 409, detail: 'event e1 has other content' }
  answer = (_, response) => send(response, 409, problem)
  const error = await client
    .emitEvent({ siteId: 1, event: 'order.created', data: 1 })
    .catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(WorkerApiError)
  expect(error).toMatchObject({ status: 409, problem, message: 'Conflict: event e1 has other content' })
})

test('throws when something else than the API answered', async () => {
  answer = (_, response) => response.writeHead(502).end('<html>')
  await expect(client.getWebhook(1)).rejects.toMatchObject({ status: 502, problem: { title: 'Unexpected answer 502' } })
  answer = (_, response) => response.writeHead(200).end('<html>')
  await expect(client.getWebhook(1)).rejects.toMatchObject({ status: 200, problem: { title: 'Unexpected answer 200' } })
})

test('never follows a redirect with the key', async () => {
  answer = (_, response) => response.writeHead(307, { location: '/elsewhere' }).end()
  await expect(client.getWebhook(1)).rejects.toMatchObject({ status: 0 })
  expect(requests).toHaveLength(1)
})

test('gives up at the deadline, also in the middle of the answer', async () => {
  const hasty = createClient({ url: address(), apiKey: 'key', timeoutMs: 50 })
  answer = () => {}
  await expect(hasty.getWebhook(1)).rejects.toMatchObject({
    status: 0,
    message: 'No answer: GET /v1/webhooks/1: nothing within 50 ms',
  })
  answer = (_, response) => response.writeHead(200).write('{')
  await expect(hasty.getWebhook(1)).rejects.toMatchObject({ status: 0, problem: { title: 'No answer' } })
})

test('says why it could not connect', async () => {
  const nowhere = createClient({ url: 'http://127.0.0.1:1', apiKey: 'key' })
  await expect(nowhere.getWebhook(1)).rejects.toMatchObject({
    status: 0,
    message: expect.stringMatching(/ECONNREFUSED|bad port/),
  })
})

test('brings nothing of the worker into the main app', () => {
  const source = (file: string) => readFileSync(new URL(`../../src/${file}`, import.meta.url), 'utf8')
  const importedBy = (file: string) =>
    [...source(file).matchAll(/^(?:import|export)(?! type)[^']*? from '([^']+)'/gm)].map((match) => match[1]!)
  // What both have to know; it brings nothing along.
  const leaves = ['errors.ts', 'analytics-dimensions.ts']
  const known = ['zod', ...leaves.map((leaf) => `../${leaf}`)]
  const files = readdirSync(new URL('../../src/client/', import.meta.url)).map((file) => `client/${file}`)
  const imported = files.flatMap(importedBy)
  expect(imported.filter((name) => !name.startsWith('./') && !known.includes(name))).toEqual([])
  expect(leaves.flatMap(importedBy)).toEqual([])
})
