import { Writable } from 'node:stream'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { addSite, countRows, createApi, secrets, withKey, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let siteId: number
let logged = ''

beforeAll(async () => {
  const stream = new Writable({
    write(chunk, _encoding, done) {
      logged += chunk
      done()
    },
  })
  api = await createApi({ log: pino({ level: 'trace' }, stream) })
  siteId = (await addSite(api.db)).site.id
})
afterAll(() => api.close())

const event = () => ({ siteId, event: 'order.created', data: 1 })
const calls = [
  ['POST', '/v1/events', event, 'enqueue'],
  ['POST', '/v1/events/batch', () => ({ events: [event()] }), 'enqueue'],
  ['POST', '/v1/jobs/sync-products', () => ({ siteId }), 'enqueue'],
  ['POST', '/v1/jobs/reset-all', () => ({ name: 'a' }), 'ops'],
  ['GET', '/v1/jobs/sync-products/1', undefined, 'any'],
  ['POST', '/v1/jobs/sync-products/1/retry', undefined, 'ops'],
  ['POST', '/v1/jobs/sync-products/1/cancel', undefined, 'ops'],
  ['GET', '/v1/webhooks/1', undefined, 'any'],
  ['GET', '/v1/webhooks/1/deliveries', undefined, 'any'],
  ['GET', '/v1/sites/1/deliveries', undefined, 'any'],
  ['GET', '/v1/deliveries/1', undefined, 'any'],
  ['POST', '/v1/deliveries/1/retry', undefined, 'ops'],
  ['POST', '/v1/deliveries/1/cancel', undefined, 'ops'],
  ['GET', '/v1/origins', undefined, 'any'],
  ['GET', '/v1/origins/*', undefined, 'any'],
  ['PUT', '/v1/origins/*', () => ({ maxConcurrent: 1 }), 'ops'],
  ['DELETE', '/v1/origins/*', undefined, 'ops'],
  ['POST', '/v1/sites/1/pause', () => ({ domain: 'webhooks' }), 'ops'],
  ['POST', '/v1/sites/1/resume', () => ({ domain: 'webhooks' }), 'ops'],
] as const

const wrongKeys = [
  ['none', {}],
  ['an empty one', { authorization: '' }],
  ['a scheme alone', { authorization: 'Bearer ' }],
  ['another scheme', { authorization: `Basic ${Buffer.from(`both:${secrets.both}`).toString('base64')}` }],
  ['an unknown one', { authorization: 'Bearer nobody-knows-this-key' }],
  ['a prefix of one', { authorization: `Bearer ${secrets.both.slice(0, -1)}` }],
  ['one with more behind it', { authorization: `Bearer ${secrets.both} x` }],
  ["one's name", { authorization: 'Bearer both' }],
] as const

it.each(calls)('%s %s is refused without a key, whatever stands in its place', async (method, url, body) => {
  const before = await countRows(api.db)
  for (const [name, headers] of wrongKeys) {
    const response = await api.app.inject({ method, url, headers, ...(body && { payload: body() }) })
    expect(response.statusCode, name).toBe(401)
    expect(response.headers['www-authenticate'], name).toMatch(/^Bearer realm="website-worker"/)
    expect(response.headers['content-type'], name).toMatch(/^application\/problem\+json/)
  }
  expect(await countRows(api.db)).toEqual(before)
})

it.each(calls)('%s %s needs its scope and no other', async (method, url, body, scope) => {
  for (const [secret, has] of [
    [secrets.both, 'both'],
    [secrets.enqueue, 'enqueue'],
    [secrets.ops, 'ops'],
  ] as const) {
    const response = await api.send(method, url, body?.(), withKey(secret))
    // The two jobs differ: `POST /v1/jobs/…` needs `enqueue`, and `ops` as well for a job that is reserved.
    const enough = scope === 'any' || has === 'both' || (has === scope && !url.endsWith('reset-all'))
    if (enough) expect([200, 202, 404, 409], response.body).toContain(response.statusCode)
    else expect(response.statusCode, `${has}: ${response.body}`).toBe(403)
  }
})

it('takes the scheme in any case', async () => {
  const { statusCode } = await api.app.inject({
    url: '/v1/webhooks/1',
    headers: { authorization: `bEARER ${secrets.ops}` },
  })
  expect(statusCode).toBe(404)
})

it('logs each call under its id and key name, without secrets', async () => {
  logged = ''
  const response = await api.send('GET', '/v1/webhooks/1?x=query-secret', undefined, {
    'x-request-id': 'trace-1',
    cookie: 'c=1',
  })
  expect(response.headers['x-request-id']).toBe('trace-1')
  await api.app.inject({ url: '/healthz' })
  const lines = logged
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
  expect(lines).toMatchObject([
    { level: 30, requestId: 'trace-1', method: 'GET', path: '/v1/webhooks/1', status: 404, key: 'both' },
    { level: 20, path: '/healthz', status: 200 },
  ])
  expect(logged).not.toContain(secrets.both)
  expect(logged).not.toContain('query-secret')
})

it('makes a request id where the caller sends none that is fit to log', async () => {
  const { headers } = await api.app.inject({ url: '/healthz', headers: { 'x-request-id': 'a\tb' } })
  expect(headers['x-request-id']).toMatch(/^[\da-f-]{36}$/)
})
