import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  analyticsDimensions,
  analyticsParts,
  readAnalytics,
  type AnalyticsQuery,
  type PgHandle,
} from '../../src/client/index.ts'
import { createSite } from '../db/main-app.ts'
import { createRole } from '../db/roles.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { fillRollups } from './analytics-fixtures.ts'

let database: TestDatabase
let mainApp: pg.Pool
let siteIds: number[]
let site: number

beforeAll(async () => {
  database = await createTestDatabase()
  const role = await createRole(database.pool)
  await database.pool.query(`GRANT SELECT ON website_sites, website_pageviews TO ${role.name}`)
  // Far from UTC, and with dates as nobody writes them.
  mainApp = new pg.Pool({
    connectionString: role.urlOf(database.url),
    options: '-c timezone=Asia/Kolkata -c datestyle=German',
  })
  siteIds = []
  for (let n = 0; n < 60; n++) siteIds.push(await createSite(database.db, { timezone: 'UTC' }))
  site = siteIds[30]!
  await fillRollups(database.pool, siteIds, '2026-03-15')
})
afterAll(async () => {
  await mainApp.end()
  await database.drop()
})

const week = () => ({ siteId: site, from: '2026-03-09', to: '2026-03-15' })
const counts = (days: number) => ({
  pageviews: 10 * days,
  botPageviews: days,
  visits: 3 * days,
  bounces: days,
  visitSeconds: 60 * days,
})

describe('under a role that may read pageviews and nothing of ours', () => {
  test('reads what a dashboard shows', async () => {
    const found = await readAnalytics(mainApp, week())
    expect(found).toMatchObject({ ...week(), timezone: 'UTC', totals: { ...counts(7), visitors: 20 } })
    expect(found.days).toHaveLength(7)
    expect(found.days[6]).toEqual({ day: '2026-03-15', ...counts(1), visitors: 2 })
    expect(found.pages).toEqual([
      { pageId: null, path: '/', pageviews: 49, visitorDays: 14, entries: 7, exits: 7 },
      { pageId: null, path: '/about', pageviews: 21, visitorDays: 14, entries: 7, exits: 7 },
    ])
    expect(Object.keys(found.dimensions).toSorted()).toEqual([...analyticsDimensions].toSorted())
    expect(found.dimensions.utm_source).toEqual([])
    expect(found.dimensions.country).toEqual([
      { value: '', pageviews: 42, visitorDays: 7, visits: 7 },
      { value: 'a', pageviews: 21, visitorDays: 7, visits: 7 },
      { value: 'b', pageviews: 21, visitorDays: 7, visits: 7 },
      { value: 'c', pageviews: 7, visitorDays: 7, visits: 7 },
    ])
    expect(found.events).toEqual([
      { type: 'click', name: 'buy', events: 35, visitorDays: 7 },
      { type: 'click', name: 'look', events: 14, visitorDays: 7 },
    ])
    expect(found.visitors).toMatchObject({ month: [{ endsOn: '2026-03-31', visitors: 90 }] })
    expect(found.visitors['7d'].map(({ endsOn }) => endsOn)).toEqual(found.days.map(({ day }) => day))
    expect(found.freshness).toEqual({ rolledThrough: null, dirty: 0, sealedBefore: null, late: 0 })
    expect(found).not.toHaveProperty('hours')
  })

  test('is the same through Drizzle, and inside a transaction', async () => {
    const query = { ...week(), parts: [...analyticsParts] }
    const found = await readAnalytics(mainApp, query)
    expect(await readAnalytics(drizzle(mainApp), query)).toEqual(found)
    const again = await drizzle(mainApp).transaction((tx) => readAnalytics(tx, query), { accessMode: 'read only' })
    expect(again).toEqual(found)
  })

  test('reads only the parts that were asked for, and as many rows', async () => {
    const parts = ['dimensions', 'pages'] as const
    const found = await readAnalytics(mainApp, { ...week(), limit: 1, dimensions: ['browser'], parts })
    expect(found).toEqual({
      ...week(),
      timezone: 'UTC',
      pages: [{ pageId: null, path: '/', pageviews: 49, visitorDays: 14, entries: 7, exits: 7 }],
      dimensions: { browser: [{ value: '', pageviews: 42, visitorDays: 7, visits: 7 }] },
    })
  })

  test('says how fresh it is', async () => {
    await database.pool.query(
      `INSERT INTO website_worker.rollup_sites (site_id, rolled_through, sealed_before)
       VALUES ($1, '2026-03-15T12:00:00.5Z', '2026-01-01T00:00:00Z')`,
      [site],
    )
    await database.pool.query(
      `INSERT INTO website_worker.analytics_late (site_id, day, kind, rows) VALUES ($1, '2025-01-01', 'events', 4), ($1, '2025-01-01', 'pageviews', 3)`,
      [site],
    )
    await database.pool.query(
      `INSERT INTO website_worker.analytics_dirty (site_id, hour, kind)
       SELECT s, date_trunc('hour', now()) + n % 25 * interval '1 hour', 'pageviews' FROM generate_series(1, 1000) n, unnest($1::int[]) s`,
      [[site, siteIds[0]]],
    )
    expect((await readAnalytics(mainApp, { ...week(), parts: ['freshness'] })).freshness).toEqual({
      rolledThrough: new Date('2026-03-15T12:00:00.500Z'),
      dirty: 25,
      sealedBefore: new Date('2026-01-01T00:00:00Z'),
      late: 7,
    })
  })

  test('refuses a role that may not read pageviews, instead of showing it nothing', async () => {
    const role = await createRole(database.pool)
    await database.pool.query(`GRANT SELECT ON website_sites TO ${role.name}`)
    const stranger = new pg.Pool({ connectionString: role.urlOf(database.url) })
    try {
      await expect(readAnalytics(stranger, week())).rejects.toMatchObject({ code: 'forbidden' })
      const { rows } = await stranger.query('SELECT FROM website_analytics_freshness')
      expect(rows).toEqual([])
    } finally {
      await stranger.end()
    }
  })
})

describe('visitors of a range', () => {
  const visitorsOf = async (from: string, to: string, countVisitors = false) =>
    (await readAnalytics(mainApp, { siteId: site, from, to, countVisitors, parts: ['totals'] })).totals.visitors

  test('are the kept ones of a day, a week, 30 days and a month', async () => {
    expect(await visitorsOf('2026-03-15', '2026-03-15')).toBe(2)
    expect(await visitorsOf('2026-03-09', '2026-03-15')).toBe(20)
    expect(await visitorsOf('2026-02-14', '2026-03-15')).toBe(80)
    expect(await visitorsOf('2026-03-01', '2026-03-31')).toBe(90)
    expect(await visitorsOf('2024-03-01', '2024-03-31')).toBe(0)
  })

  test('are unknown of any other, until they are to be counted', async () => {
    expect(await visitorsOf('2026-03-10', '2026-03-15')).toBeNull()
    // Two each day, and one who came on the 12th and the 15th.
    expect(await visitorsOf('2026-03-10', '2026-03-15', true)).toBe(13)
  })

  test('are also those who came before it and stayed', async () => {
    const other = siteIds[1]!
    for (const [session, startedAt] of [
      ['visitor 3 of 2026-03-08', '2026-03-08T03:00:00Z'],
      ['visitor 7 of 2026-03-08', '2026-03-09T20:00:00Z'],
    ])
      await database.pool.query(
        `UPDATE website_analytics_visits SET started_at = $3, ended_at = '2026-03-10T00:00:00Z',
           seconds = extract(epoch FROM '2026-03-10T00:00:00Z' - $3::timestamptz)
         WHERE site_id = $1 AND session_id = $2`,
        [other, session, startedAt],
      )
    const query = {
      siteId: other,
      from: '2026-03-10',
      to: '2026-03-11',
      countVisitors: true,
      parts: ['totals'] as const,
    }
    expect((await readAnalytics(mainApp, query)).totals.visitors).toBe(4 + 2)
    expect((await readAnalytics(mainApp, { ...query, from: '2026-03-11' })).totals.visitors).toBe(2)
    expect((await readAnalytics(mainApp, { ...query, from: '2026-03-11', to: '2026-03-12' })).totals.visitors).toBe(
      4 + 1,
    )
  })
})

describe('hours', () => {
  const hoursOf = async (timezone: string, day: string) => {
    const siteId = await createSite(database.db, { timezone })
    await database.pool.query(
      `INSERT INTO website_analytics_page_hourly (site_id, hour, page_key, page_path, pageviews)
       SELECT $1, date_trunc('hour', website_worker.instant_of($2::date::timestamp, $3) + interval '150 minutes', $3), md5(p)::uuid, p, 4
       FROM unnest(ARRAY['/', '/about']) p`,
      [siteId, day, timezone],
    )
    const found = await readAnalytics(mainApp, { siteId, from: day, to: day, parts: ['hours'] })
    return found.hours
  }

  test('are instants, all of the day, with what happened in them', async () => {
    const { hours } = await readAnalytics(mainApp, { ...week(), parts: ['hours'] })
    expect(hours).toHaveLength(7 * 24)
    expect(hours[3]).toEqual({ hour: new Date('2026-03-09T03:00:00Z'), pageviews: 3, visits: 1 })
    expect(hours[4]).toEqual({ hour: new Date('2026-03-09T04:00:00Z'), pageviews: 0, visits: 0 })
  })

  test.each([
    ['Europe/Berlin', '2026-10-25', 25, '2026-10-24T22:00:00Z', '2026-10-25T00:00:00Z'],
    ['America/New_York', '2026-03-08', 23, '2026-03-08T05:00:00Z', '2026-03-08T07:00:00Z'],
    ['America/Havana', '2026-11-01', 25, '2026-11-01T04:00:00Z', '2026-11-01T06:00:00Z'],
    ['Asia/Kolkata', '2026-03-08', 24, '2026-03-07T18:30:00Z', '2026-03-07T20:30:00Z'],
    ['Mars/Olympus', '2026-03-08', 24, '2026-03-08T00:00:00Z', undefined],
  ])('of %s on %s are %i', async (timezone, day, count, first, busy) => {
    if (busy === undefined) {
      const siteId = await createSite(database.db, { timezone })
      const found = await readAnalytics(mainApp, { siteId, from: day, to: day, parts: ['hours'] })
      expect(found.timezone).toBe('UTC')
      expect(found.hours).toHaveLength(count)
      return
    }
    const hours = await hoursOf(timezone, day)
    expect(hours).toHaveLength(count)
    expect(hours[0]!.hour).toEqual(new Date(first))
    expect(hours.filter((point) => point.pageviews > 0)).toEqual([{ hour: new Date(busy), pageviews: 8, visits: 0 }])
  })
})

test('refuses what makes no sense before anything is read, and names it', async () => {
  const untouched: PgHandle = {
    query: () => {
      throw new Error('touched')
    },
  }
  const valid = { siteId: 1, from: '2026-01-01', to: '2026-01-31' }
  for (const [field, query] of [
    ['siteId', { ...valid, siteId: 0 }],
    ['siteId', { ...valid, siteId: 2 ** 31 }],
    ['from', { ...valid, from: '2026-02-30' }],
    ['from', { ...valid, from: '2026-01-01T00:00:00Z' }],
    ['from', { ...valid, from: '0000-01-01' }],
    ['to', { ...valid, to: '2025-12-31' }],
    ['to', { ...valid, to: '2046-01-01' }],
    ['to', { ...valid, to: '2026-04-03', parts: ['hours'] }],
    ['limit', { ...valid, limit: 1_001 }],
    ['dimensions.0', { ...valid, dimensions: ['city'] }],
    ['parts.1', { ...valid, parts: ['pages', 'everything'] }],
    [undefined, { ...valid, site: 1 }],
  ] as const) {
    await expect(readAnalytics(untouched, query as AnalyticsQuery)).rejects.toMatchObject({ code: 'invalid', field })
  }
  await expect(readAnalytics(mainApp, { ...valid, siteId: 999_999 })).rejects.toMatchObject({ code: 'not_found' })
})

test('every statement finds its rows by index', async () => {
  const plans: string[] = []
  const explaining: PgHandle = {
    async query(text, values) {
      const { rows } = await mainApp.query(`EXPLAIN ${text}`, values)
      plans.push(rows.map((row) => row['QUERY PLAN']).join('\n'))
      return mainApp.query(text, values)
    },
  }
  await readAnalytics(explaining, { ...week(), to: '2026-03-14', countVisitors: true, parts: [...analyticsParts] })
  expect(plans).toHaveLength(1 + analyticsParts.length)
  for (const plan of plans) expect(plan).not.toMatch(/Seq Scan on website_analytics/)
  expect(plans.join('\n')).toMatch(/website_analytics_visits_long/)
})
