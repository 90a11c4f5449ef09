import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { addSite, countRows, createApi, secrets, withKey, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let siteId: number
let webhookId: number
let rowsBefore: Record<string, number>

beforeAll(async () => {
  api = await createApi()
  const { site, webhooks } = await addSite(api.db, ['order.created'])
  siteId = site.id
  webhookId = webhooks[0]!.id
  await api.send('POST', '/v1/events', { siteId, event: 'order.created', data: 1, id: 'taken' })
  rowsBefore = await countRows(api.db)
})
afterAll(() => api.close())

interface Refusal {
  name: string
  method?: 'GET' | 'POST'
  /** `:site` and `:webhook` stand for the ids of rows that are there. */
  url: string
  body?: () => unknown
  headers?: Record<string, string>
  status: number
  field?: string
}

const event = (changes: object) => () => ({ siteId, event: 'order.created', data: {}, ...changes })
const refusedEvent = (name: string, changes: object, field: string, status = 422): Refusal => ({
  name: `an event with ${name}`,
  url: '/v1/events',
  body: event(changes),
  status,
  field,
})
const raw = (name: string, body: string | Buffer, status: number, field?: string): Refusal => ({
  name,
  url: '/v1/events',
  body: () => body,
  status,
  ...(field !== undefined && { field }),
})
const job = (name: string, body: unknown, field: string, headers?: Record<string, string>): Refusal => ({
  name: `a job with ${name}`,
  url: '/v1/jobs/sync-products',
  body: () => body,
  status: 422,
  field,
  ...(headers && { headers }),
})
const nested = (levels: number) => JSON.parse('['.repeat(levels) + ']'.repeat(levels))
const read = (url: string, status: number, field?: string): Refusal => ({
  name: `GET ${url.slice(0, 80)}`,
  method: 'GET',
  url,
  status,
  ...(field !== undefined && { field }),
})
const post = (url: string, status: number, body?: unknown, field?: string): Refusal => ({
  name: `POST ${url.slice(0, 80)} ${body === undefined ? '' : JSON.stringify(body).slice(0, 60)}`,
  url,
  status,
  ...(body !== undefined && { body: () => body }),
  ...(field !== undefined && { field }),
})

const refusals: Refusal[] = [
  raw('text that is not JSON', '{"siteId":', 400),
  raw('an empty body', '', 400),
  raw('single quotes', "{'a':1}", 400),
  raw('NaN', '{"siteId":NaN}', 400),
  raw('UTF-8 that is cut off', Buffer.from([0x22, 0xc3, 0x22]), 400),
  raw('UTF-16', Buffer.from('{"a":1}', 'utf16le'), 400),
  raw('a NUL byte', Buffer.from('{"a":"\u0000"}'), 400),
  raw('random bytes', randomBytes(64).fill(0xff, 0, 1), 400),
  raw('a null', 'null', 422, 'body'),
  raw('a number', '1', 422, 'body'),
  raw('a text', '"x"', 422, 'body'),
  raw('an array', '[]', 422, 'body'),
  raw('an empty object', '{}', 422, 'siteId'),
  raw('nothing but __proto__', '{"__proto__":{"siteId":1,"event":"order.created","data":1}}', 422, 'siteId'),
  { name: 'no body at all', url: '/v1/events', status: 400 },
  refusedEvent('a site that is not there', { siteId: 2_000_000_000 }, 'siteId'),
  refusedEvent('site 0', { siteId: 0 }, 'siteId'),
  refusedEvent('a negative site', { siteId: -1 }, 'siteId'),
  refusedEvent('a site beyond int32', { siteId: 2_147_483_648 }, 'siteId'),
  refusedEvent('a site beyond int64', { siteId: 1e30 }, 'siteId'),
  refusedEvent('half a site', { siteId: 1.5 }, 'siteId'),
  refusedEvent('a site in quotes', { siteId: '1' }, 'siteId'),
  refusedEvent('no site', { siteId: null }, 'siteId'),
  refusedEvent('an unknown name', { event: 'order.deleted' }, 'event'),
  refusedEvent('a name with NUL', { event: 'order.created\u0000' }, 'event'),
  refusedEvent('a name that is a list', { event: ['order.created'] }, 'event'),
  refusedEvent('no data', { data: undefined }, 'data'),
  refusedEvent('data nested too deeply', { data: nested(101) }, 'data'),
  refusedEvent('data over 256 KiB', { data: 'x'.repeat(262_144) }, 'data', 413),
  refusedEvent('an empty id', { id: '' }, 'id'),
  refusedEvent('an id with a space', { id: 'a b' }, 'id'),
  refusedEvent('an id with NUL', { id: 'a\u0000' }, 'id'),
  refusedEvent('an id with a line break', { id: 'a\n' }, 'id'),
  refusedEvent('an id of 256 characters', { id: 'a'.repeat(256) }, 'id'),
  refusedEvent('a number as id', { id: 7 }, 'id'),
  refusedEvent('a taken id and other content', { id: 'taken', data: 2 }, 'id', 409),
  refusedEvent('a day as occurredAt', { occurredAt: '2026-01-01' }, 'occurredAt'),
  refusedEvent('a time without a zone', { occurredAt: '2026-01-01T00:00:00' }, 'occurredAt'),
  refusedEvent('a day that never was', { occurredAt: '2026-02-30T00:00:00Z' }, 'occurredAt'),
  refusedEvent('an unknown field', { dta: 1 }, 'dta'),
  refusedEvent('an unknown field of 100,000 characters', { ['k'.repeat(100_000)]: 1 }, `${'k'.repeat(300)}…`),
  { name: 'a body over 1 MiB', url: '/v1/events', body: event({ data: 'x'.repeat(1_048_576) }), status: 413 },
  { name: 'XML', url: '/v1/events', body: () => '<a/>', headers: { 'content-type': 'application/xml' }, status: 415 },
  { name: 'plain text', url: '/v1/events', body: () => '{}', headers: { 'content-type': 'text/plain' }, status: 415 },
  {
    name: 'a form',
    url: '/v1/events',
    body: () => 'a=1',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    status: 415,
  },
  {
    name: 'a compressed body',
    url: '/v1/events',
    body: () => '{}',
    headers: { 'content-encoding': 'gzip' },
    status: 415,
  },
  { name: 'a body without a type', url: '/v1/events', body: () => '{}', headers: { 'content-type': '' }, status: 415 },
  post('/v1/events/batch', 422, {}, 'events'),
  post('/v1/events/batch', 422, { events: [] }, 'events'),
  post('/v1/events/batch', 422, { events: {} }, 'events'),
  post('/v1/events/batch', 422, { events: Array(1_001).fill(0) }, 'events'),
  post('/v1/events/batch', 422, { events: [{}], more: 1 }, 'more'),
  {
    name: 'a batch over 8 MiB',
    url: '/v1/events/batch',
    body: () => ({ events: ['x'.repeat(8_388_608)] }),
    status: 413,
  },
  job('an unknown site', { siteId: 2_000_000_000 }, 'siteId'),
  job('no site', {}, 'siteId'),
  job('an unknown field', { siteId: 1, modus: 'full' }, 'modus'),
  job('an unknown value', { siteId: 1, mode: 'half' }, 'mode'),
  job('a NUL in a text', { siteId: 1, skus: ['a', 'b\u0000'] }, 'skus.1'),
  job('half a surrogate pair', { siteId: 1, skus: ['\ud800'] }, 'skus.0'),
  job('a body that is a list', [], 'body'),
  job('an empty Idempotency-Key', { siteId: 1 }, 'Idempotency-Key', { 'idempotency-key': '' }),
  job('a space in the Idempotency-Key', { siteId: 1 }, 'Idempotency-Key', { 'idempotency-key': 'a b' }),
  job('an Idempotency-Key of 256', { siteId: 1 }, 'Idempotency-Key', { 'idempotency-key': 'a'.repeat(256) }),
  job('an Idempotency-Key outside ASCII', { siteId: 1 }, 'Idempotency-Key', { 'idempotency-key': 'schlüssel' }),
  post('/v1/jobs/no-such-job', 404, { siteId: 1 }),
  post('/v1/jobs/deliver-webhook', 404, { deliveryId: 1 }),
  post('/v1/jobs/__proto__', 404, {}),
  post('/v1/jobs/%00', 404, {}),
  { ...post('/v1/jobs/reset-all', 403, { name: 'x' }), headers: withKey(secrets.enqueue) },
  post('/v1/jobs/sync-products', 400),
  read('/v1/jobs/sync-products/999999', 404),
  read('/v1/jobs/sync-products/0', 404),
  read('/v1/jobs/sync-products/-1', 404),
  read('/v1/jobs/sync-products/1e3', 404),
  read('/v1/jobs/sync-products/99999999999999999999', 404),
  read('/v1/jobs/no-such-job/1', 404),
  read('/v1/jobs/%00/1', 404),
  post('/v1/jobs/sync-products/999999/retry', 404),
  post('/v1/jobs/sync-products/x/cancel', 404),
  read('/v1/webhooks/2147483647', 404),
  read('/v1/webhooks/2147483648', 404),
  read('/v1/webhooks/0', 404),
  read('/v1/webhooks/01', 404),
  read('/v1/webhooks/%00', 404),
  read('/v1/webhooks/1%27', 404),
  read('/v1/webhooks/%ff', 400),
  read(`/v1/webhooks/${'9'.repeat(400)}`, 414),
  read('/v1/webhooks/2147483647/deliveries', 404),
  read('/v1/webhooks/:webhook/deliveries?status=lost', 422, 'status'),
  read('/v1/webhooks/:webhook/deliveries?status=failed&status=held', 422, 'status'),
  read('/v1/webhooks/:webhook/deliveries?cursor=', 422, 'cursor'),
  read('/v1/webhooks/:webhook/deliveries?cursor=abc', 422, 'cursor'),
  read('/v1/webhooks/:webhook/deliveries?cursor=%00', 422, 'cursor'),
  read(`/v1/webhooks/:webhook/deliveries?cursor=${Buffer.from('<9999999999').toString('base64url')}`, 422, 'cursor'),
  read('/v1/webhooks/:webhook/deliveries?limit=0', 422, 'limit'),
  read('/v1/webhooks/:webhook/deliveries?limit=201', 422, 'limit'),
  read('/v1/webhooks/:webhook/deliveries?limit=ten', 422, 'limit'),
  read('/v1/webhooks/:webhook/deliveries?sort=id', 422, 'sort'),
  read('/v1/webhooks/:webhook/deliveries?__proto__=1', 422, '__proto__'),
  post('/v1/webhooks/2147483647/replay', 404, { since: '2026-01-01T00:00:00Z' }),
  post('/v1/webhooks/%00/replay', 404, { since: '2026-01-01T00:00:00Z' }),
  post('/v1/webhooks/:webhook/replay', 400),
  post('/v1/webhooks/:webhook/replay', 422, {}, 'since'),
  post('/v1/webhooks/:webhook/replay', 422, { since: '2026-02-30T00:00:00Z' }, 'since'),
  post('/v1/webhooks/:webhook/replay', 422, { since: '2026-01-02T00:00:00Z', until: '2026-01-01T00:00:00Z' }, 'since'),
  post('/v1/webhooks/:webhook/replay', 422, { since: '2026-01-01T00:00:00Z', status: 'pending' }, 'status'),
  post('/v1/webhooks/:webhook/replay', 422, { since: '2026-01-01T00:00:00Z', limit: 1 }, 'limit'),
  post('/v1/webhooks/2147483647/ping', 404),
  post('/v1/webhooks/:webhook/ping', 422, { now: true }, 'now'),
  post('/v1/webhooks/2147483647/cancel-pending', 404),
  post('/v1/webhooks/:webhook/cancel-pending', 422, { status: 'held' }, 'status'),
  read('/v1/sites/2000000000/deliveries', 404),
  read('/v1/deliveries/2000000000', 404),
  read('/v1/deliveries/-0', 404),
  post('/v1/deliveries/2000000000/retry', 404),
  post('/v1/deliveries/2000000000/cancel', 404),
  post('/v1/deliveries/1/retry', 422, { force: true }, 'force'),
  post('/v1/sites/2000000000/pause', 404, { domain: 'webhooks' }),
  post('/v1/sites/0/pause', 404, { domain: 'webhooks' }),
  post('/v1/sites/:site/pause', 422, { domain: 'shop' }, 'domain'),
  post('/v1/sites/:site/pause', 422, {}, 'domain'),
  post('/v1/sites/:site/pause', 422, { domain: 'erp', forever: true }, 'forever'),
  post('/v1/sites/:site/pause', 400),
  post('/v1/sites/2000000000/resume', 404, { domain: 'webhooks' }),
  read('/v1', 404),
  read('/v1/nothing', 404),
  read('/nothing', 404),
  read('/v1/events', 405),
  post('/v1/webhooks/1', 405, {}),
]

describe('a bad request', () => {
  it.each(refusals)('is answered and leaves nothing behind: $name → $status $field', async (refusal) => {
    const { method = 'POST', url, body, headers, status, field } = refusal
    const path = url.replace(':site', String(siteId)).replace(':webhook', String(webhookId))
    const response = await api.send(method, path, body?.(), headers)
    expect(response.statusCode, response.body).toBe(status)
    expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
    const problem = response.json()
    expect(problem).toMatchObject({
      status,
      title: expect.any(String),
      detail: expect.any(String),
      type: expect.any(String),
    })
    expect(problem.field).toBe(field)
    if (field !== undefined) expect(problem.errors[0]).toEqual({ field, message: expect.any(String) })
    expect(response.body.length).toBeLessThan(10_000)
    expect(await countRows(api.db)).toEqual(rowsBefore)
  })

  it('names every field that is wrong', async () => {
    const response = await api.send('POST', '/v1/events', { siteId: 'x', event: 'y', data: 1, id: ' ', more: 1 })
    expect(response.json().errors.map(({ field }: { field: string }) => field)).toEqual([
      'siteId',
      'event',
      'id',
      'more',
    ])
  })

  it('for a job that is not there is told which there are', async () => {
    const response = await api.send('POST', '/v1/jobs/sync-everything', {})
    expect(response.json().detail).toContain('sync-products, reset-all')
  })

  it('with another method is told which are possible', async () => {
    const response = await api.send('POST', '/v1/webhooks/1', {})
    expect(response.headers.allow).toBe('GET, HEAD')
  })
})
