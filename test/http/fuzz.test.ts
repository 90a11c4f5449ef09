import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { eventNames } from '../../src/client/schemas.ts'
import { addSite, countRows, createApi, secrets, withKey, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let siteId: number
beforeAll(async () => {
  api = await createApi()
  siteId = (await addSite(api.db, ['order.created'])).site.id
  await api.send('POST', '/v1/events', { siteId, event: 'order.created', data: 1 })
  await api.send('POST', '/v1/jobs/sync-products', { siteId })
})
afterAll(() => api.close())

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '\u0000', '\ud800', '__proto__', 'constructor', '1', '-1', '0', '1e9', "'; --", '%', '../x'),
)
const number = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(1, 0, -1, 2 ** 31, 2 ** 53, 2 ** 63, Infinity))
const path = fc.oneof(
  text.map(encodeURIComponentSafely),
  number.map(String),
  fc.constantFrom('1', '2', 'sync-products'),
)
const json = fc.oneof(fc.jsonValue({ maxDepth: 4 }), fc.dictionary(text, fc.jsonValue({ maxDepth: 2 })), text, number)

/** A body near a good one: the right fields, now and then one that is missing, has anything in it, or is one too many. */
const near = (fields: Record<string, fc.Arbitrary<unknown>>) => {
  const seldom = (often: fc.Arbitrary<unknown>) =>
    fc.oneof(
      { arbitrary: often, weight: 12 },
      { arbitrary: json, weight: 1 },
      { arbitrary: fc.constant(undefined), weight: 1 },
    )
  return fc.record({
    ...Object.fromEntries(Object.entries(fields).map(([name, good]) => [name, seldom(good)])),
    more: seldom(fc.constant(undefined)),
  })
}
const event = near({
  siteId: fc.constant(1),
  event: fc.constantFrom(...eventNames),
  data: json,
  id: fc.stringMatching(/^[A-Za-z0-9_-]{1,5}$/),
  occurredAt: fc
    .date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true })
    .map((date) => date.toISOString()),
})
const batch = near({ events: fc.array(event, { maxLength: 5 }) })
const job = near({
  siteId: fc.constant(1),
  mode: fc.constantFrom('full', 'incremental'),
  skus: fc.array(fc.string({ unit: 'grapheme' })),
})
const replay = near({
  since: fc.constantFrom('2026-01-01T00:00:00Z', '0000-01-01T00:00:00+23:59', '2999-01-01T00:00:00Z'),
  until: fc.constantFrom('2026-01-02T00:00:00Z', '9999-12-31T23:59:59-23:59', undefined),
  status: fc.constantFrom('failed', 'held', 'cancelled', 'delivered', undefined),
})
const domain = near({ domain: fc.constantFrom('webhooks', 'erp') })
const limits = near({ maxConcurrent: fc.oneof(fc.integer({ min: 1, max: 1000 }), number), requestsPerSecond: number })
const bodies = fc.oneof(
  fc.oneof(json, event, batch, job, domain, replay, limits).map(encode),
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
)
const urls = fc.oneof(
  path.map((name) => `/v1/jobs/${name}`),
  fc.tuple(path, path).map(([name, id]) => `/v1/jobs/${name}/${id}`),
  fc
    .tuple(path, fc.constantFrom('', '/deliveries', '/replay', '/ping', '/cancel-pending'))
    .map(([id, rest]) => `/v1/webhooks/${id}${rest}`),
  fc.tuple(path, fc.constantFrom('/deliveries', '/pause', '/resume')).map(([id, rest]) => `/v1/sites/${id}${rest}`),
  fc
    .tuple(fc.constantFrom('jobs/sync-products', 'deliveries'), path, fc.constantFrom('', '/retry', '/cancel'))
    .map(([of, id, rest]) => `/v1/${of}/${id}${rest}`),
  fc
    .tuple(fc.constantFrom('status', 'cursor', 'limit', '__proto__'), path)
    .map(([name, value]) => `/v1/webhooks/1/deliveries?${name}=${value}`),
  fc
    .oneof(
      path,
      path.map((host) => `https%3A%2F%2F${host}`),
      fc.webUrl().map(encodeURIComponentSafely),
    )
    .map((origin) => `/v1/origins/${origin}`),
  fc
    .tuple(
      fc.constantFrom('cursor', 'limit'),
      fc.oneof(
        path,
        text.map((name) => Buffer.from(`>${name}`).toString('base64url')),
      ),
    )
    .map(([name, value]) => `/v1/origins?${name}=${value}`),
  path.map((rest) => `/${rest}`),
)
const to = (url: string, body: fc.Arbitrary<unknown>) => fc.tuple(fc.constant(url), body.map(encode))
const targets: fc.Arbitrary<[string, string | Buffer]> = fc.oneof(
  { arbitrary: fc.tuple(urls, fc.oneof(bodies, fc.constant('{}'))), weight: 5 },
  {
    arbitrary: fc.tuple(fc.constantFrom('/v1/events', '/v1/events/batch', '/v1/jobs/sync-products'), bodies),
    weight: 1,
  },
  { arbitrary: to('/v1/events', event), weight: 2 },
  { arbitrary: to('/v1/events/batch', batch), weight: 1 },
  { arbitrary: to('/v1/jobs/sync-products', job), weight: 1 },
  { arbitrary: to('/v1/sites/1/pause', domain), weight: 1 },
  { arbitrary: to('/v1/webhooks/1/replay', replay), weight: 1 },
  { arbitrary: to('/v1/origins/https%3A%2F%2Fshop.example', limits), weight: 1 },
)
const headers = fc.record(
  {
    'content-type': fc.constantFrom(...Array<string>(8).fill('application/json'), 'text/plain', 'x', ''),
    'idempotency-key': fc.oneof(fc.stringMatching(/^[!-~]$/), fc.string({ maxLength: 300 })),
    'x-request-id': fc.string(),
    accept: fc.string(),
  },
  { requiredKeys: [] },
)

function encodeURIComponentSafely(value: string): string {
  return Buffer.from(value)
    .toString('latin1')
    .replaceAll(/[^A-Za-z0-9]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** The site that is there stands in for site 1. */
function encode(value: unknown): string {
  return (JSON.stringify(value) ?? '').replaceAll('"siteId":1,', `"siteId":${siteId},`)
}

it('whatever is sent: no 5xx, a problem for every refusal, and a refusal leaves nothing behind', async () => {
  const seen = new Map<number, number>()
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(
        'POST' as const,
        'POST' as const,
        'POST' as const,
        'GET' as const,
        'PUT' as const,
        'DELETE' as const,
      ),
      targets,
      headers,
      async (method, [url, body], extra) => {
        const before = await countRows(api.db)
        const response = await api.app.inject({
          method,
          url,
          headers: { 'content-type': 'application/json', ...extra, ...withKey(secrets.both) },
          ...((method === 'POST' || method === 'PUT') && { payload: body }),
        })
        const { statusCode } = response
        seen.set(statusCode, (seen.get(statusCode) ?? 0) + 1)
        expect(statusCode, response.body).toBeLessThan(500)
        if (statusCode < 400) return
        expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
        expect(response.json()).toMatchObject({ status: statusCode })
        expect(await countRows(api.db)).toEqual(before)
      },
    ),
    { numRuns: 600 },
  )
  // It met good requests too, and each kind of refusal.
  for (const status of [202, 200, 400, 404, 422, 415]) expect(seen.get(status) ?? 0, String(status)).toBeGreaterThan(0)
  expect(({} as Record<string, unknown>).more).toBeUndefined()
})
