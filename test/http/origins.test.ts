import { sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { listLanes } from '../../src/db/queries/lane-limits.ts'
import { laneLimits, lanes, work } from '../../src/db/schema/worker.ts'
import { explaining } from '../fixtures/plans.ts'
import { createApi, secrets, withKey, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let logged: Record<string, unknown>[] = []
beforeAll(async () => {
  api = await createApi({ log: pino({ level: 'info' }, { write: (line) => void logged.push(JSON.parse(line)) }) })
})
afterAll(() => api.close())
beforeEach(async () => {
  logged = []
  for (const table of [lanes, laneLimits, work]) await api.db.delete(table)
})

const shop = 'https://shop.example'
const at = (origin: string) => `/v1/origins/${encodeURIComponent(origin)}`
const put = (origin: string, body: unknown) => api.send('PUT', at(origin), body)
const set = async (origin: string, body: unknown = { maxConcurrent: 4, requestsPerSecond: 2.5 }) =>
  expect((await put(origin, body)).statusCode).toBe(200)
const nothing = { limits: null, breaker: 'closed', openUntil: null, window: null, parked: 0, inQueue: 0 }

async function wait(lane: string, parked: number, inQueue: number) {
  await api.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, lane, rung_at)
        SELECT 'deliver-webhook', ${lane} || i, '{}', ${lane}, CASE WHEN i > ${parked} THEN now() END
        FROM generate_series(1, ${parked + inQueue}) i`,
  )
}

describe('PUT /v1/origins/{origin}', () => {
  it('sets limits in place of those before, shows them, and leaves a line in the log', async () => {
    const response = await put(shop, { maxConcurrent: 4, requestsPerSecond: 2.5 })
    expect(response.statusCode, response.body).toBe(200)
    const expected = { ...nothing, origin: shop, limits: { maxConcurrent: 4, requestsPerSecond: 2.5 } }
    expect(response.json()).toEqual(expected)
    expect((await api.send('GET', at(shop))).json()).toEqual(expected)
    const limits = { maxConcurrent: null, requestsPerSecond: 0.01 }
    expect((await put(shop, { requestsPerSecond: 0.01 })).json()).toMatchObject({ limits })
    expect(await api.db.select().from(laneLimits)).toMatchObject([{ lane: shop, ...limits }])
    expect(logged).toContainEqual(
      expect.objectContaining({ msg: 'limits of an origin set', origin: shop, limits, by: 'both' }),
    )
  })

  it.each([
    ['HTTPS://Shop.Example/', shop],
    ['https://shop.example:443', shop],
    ['http://shop.example:8080', 'http://shop.example:8080'],
    ['http://127.1', 'http://127.0.0.1'],
    ['http://[::0001]:80', 'http://[::1]'],
    ['*', '*'],
  ])('takes %s for %s', async (given, origin) => {
    expect((await put(given, { maxConcurrent: 1 })).json()).toMatchObject({ origin })
    expect(await api.db.select().from(laneLimits)).toMatchObject([{ lane: origin }])
  })

  it('takes both null, which exempts an origin from what is set for all', async () => {
    const limits = { maxConcurrent: null, requestsPerSecond: null }
    expect((await put(shop, limits)).json()).toMatchObject({ limits })
  })

  it.each([
    ['maxConcurrent', { maxConcurrent: 0, requestsPerSecond: 1 }],
    ['maxConcurrent', { maxConcurrent: 1001 }],
    ['maxConcurrent', { maxConcurrent: 1.5 }],
    ['maxConcurrent', { maxConcurrent: '4' }],
    ['maxConcurrent', {}],
    ['requestsPerSecond', { requestsPerSecond: 0.009 }],
    ['requestsPerSecond', { requestsPerSecond: 10_000.1 }],
    ['window', { maxConcurrent: 1, window: 3 }],
  ])('refuses a wrong %s: %j', async (field, body) => {
    const response = await put(shop, body)
    expect(response.statusCode).toBe(422)
    expect(response.json()).toMatchObject({ field })
    expect(await api.db.select().from(laneLimits)).toEqual([])
  })
})

it.each([
  'shop.example',
  'shop',
  'ftp://shop.example',
  'javascript:alert(1)',
  'https://shop.example/hook',
  'https://shop.example?token=t',
  'https://shop.example/#a',
  'https://user@shop.example',
  'https://:secret@shop.example',
  'https://',
  'https://shop.example\u0000',
  'https://shop\n.example',
  'https://*',
  ' ',
])('refuses %j as an origin, for every call', async (origin) => {
  for (const response of [
    await put(origin, { maxConcurrent: 1 }),
    await api.send('GET', at(origin)),
    await api.send('DELETE', at(origin)),
  ]) {
    expect(response.statusCode).toBe(422)
    expect(response.json()).toMatchObject({ field: 'origin', detail: expect.any(String) })
    expect(response.body).not.toContain('secret')
  }
})

it('asks for the scope "ops" to change limits, and for any key to see them', async () => {
  await set(shop)
  const headers = withKey(secrets.enqueue)
  expect((await api.send('PUT', at(shop), { maxConcurrent: 1 }, headers)).statusCode).toBe(403)
  expect((await api.send('DELETE', at(shop), undefined, headers)).statusCode).toBe(403)
  expect((await api.send('GET', at(shop), undefined, headers)).json()).toMatchObject({ limits: { maxConcurrent: 4 } })
  expect((await api.send('GET', '/v1/origins', undefined, headers)).json().items).toHaveLength(1)
})

describe('DELETE /v1/origins/{origin}', () => {
  it('goes back to what holds for all, once', async () => {
    await set(shop)
    await set('*')
    const response = await api.send('DELETE', at('https://SHOP.example'))
    expect(response.statusCode).toBe(200)
    expect(response.json()).toEqual({ ...nothing, origin: shop })
    expect((await api.send('DELETE', at(shop))).statusCode).toBe(404)
    expect((await api.send('GET', at('*'))).json()).toMatchObject({ limits: { maxConcurrent: 4 } })
    expect(logged).toContainEqual(
      expect.objectContaining({ msg: 'limits of an origin taken away', origin: shop, by: 'both' }),
    )
  })
})

describe('GET /v1/origins', () => {
  it('tells how an origin fares', async () => {
    const soon = new Date(Date.now() + 3_600_000)
    await api.db.insert(lanes).values([
      { lane: 'https://broken.example', window: 8, opens: 2, openUntil: soon },
      { lane: 'https://busy.example', window: 31 },
      { lane: 'https://probed.example', window: 8, opens: 1, openUntil: new Date(Date.now() - 1_000) },
    ])
    await wait('https://busy.example', 7, 3)
    await set(shop)
    const closed = { limits: null, breaker: 'closed', openUntil: null, parked: 0, inQueue: 0 }
    const { items, nextCursor } = (await api.send('GET', '/v1/origins')).json()
    expect(nextCursor).toBeNull()
    expect(items).toEqual([
      { ...closed, origin: 'https://broken.example', window: 8, breaker: 'open', openUntil: soon.toISOString() },
      { ...closed, origin: 'https://busy.example', window: 31, parked: 7, inQueue: 3 },
      { ...closed, origin: 'https://probed.example', window: 8, breaker: 'probing' },
      { ...nothing, origin: shop, limits: { maxConcurrent: 4, requestsPerSecond: 2.5 } },
    ])
    expect((await api.send('GET', at('https://busy.example'))).json()).toEqual(items[1])
    expect((await api.send('GET', at('https://unknown.example'))).json()).toEqual({
      ...nothing,
      origin: 'https://unknown.example',
    })
  })

  it('goes page after page through what has limits, a lane, or both', async () => {
    for (let n = 10; n < 20; n++) {
      if (n % 3 !== 0) await api.db.insert(lanes).values({ lane: `https://${n}.example`, window: 1 })
      if (n % 3 !== 1) await api.db.insert(laneLimits).values({ lane: `https://${n}.example`, maxConcurrent: n })
    }
    const pages: string[][] = []
    for (let cursor: string | null = ''; cursor !== null;) {
      const page: { items: { origin: string }[]; nextCursor: string | null } = (
        await api.send('GET', `/v1/origins?limit=4${cursor && `&cursor=${cursor}`}`)
      ).json()
      pages.push(page.items.map((item) => item.origin))
      cursor = page.nextCursor
    }
    expect(pages.map((page) => page.length)).toEqual([4, 4, 2])
    expect(pages.flat()).toEqual(Array.from({ length: 10 }, (_, n) => `https://${n + 10}.example`))
  })

  it.each(['cursor=x', 'cursor=Pg', 'cursor=PgA', 'limit=0', 'limit=201', 'status=open'])(
    'refuses ?%s',
    async (query) => {
      const response = await api.send('GET', `/v1/origins?${query}`)
      expect(response.statusCode).toBe(422)
      expect(response.json()).toMatchObject({ field: query.split('=')[0] })
    },
  )

  it('names what it lists so that it can be asked for, whatever its URL was', async () => {
    const odd = ['http://bücher.example', 'http://0x7f.1', 'webhook 12']
    for (const lane of odd) await api.db.insert(lanes).values({ lane, window: 1 })
    for (const lane of odd) {
      expect((await api.send('GET', at(lane))).json()).toMatchObject({ origin: lane, window: 1 })
      await set(lane)
    }
    expect((await api.db.select().from(laneLimits)).map(({ lane }) => lane).toSorted()).toEqual(odd.toSorted())
    expect((await api.send('GET', at('webhook 13'))).statusCode).toBe(422)
  })

  it('is answered from indexes, whatever else is owed', async () => {
    await api.db.execute(
      sql`INSERT INTO website_worker.lanes (lane, "window") SELECT 'https://' || i || '.example', 8 FROM generate_series(1, 5000) i`,
    )
    await api.db.execute(
      sql`INSERT INTO website_worker.lane_limits (lane, max_concurrent)
          SELECT 'https://' || i || '.example', 8 FROM generate_series(1, 5000) i`,
    )
    await api.db.execute(
      sql`INSERT INTO website_worker.work (job, key, payload, lane, rung_at)
          SELECT 'deliver-webhook', i::text, '{}', 'https://' || i % 5000 || '.example', CASE WHEN i % 9 = 0 THEN now() END
          FROM generate_series(1, 30000) i`,
    )
    await api.db.execute(sql`VACUUM ANALYZE website_worker.work, website_worker.lanes, website_worker.lane_limits`)
    const { db, plans } = explaining(api.db)
    expect(await listLanes(db, 'https://3', 50)).toHaveLength(50)
    expect(plans.join()).not.toContain('Seq Scan')
  })
})
