import { sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { disableDomain, enableDomain } from '../../src/db/domains.ts'
import { recountAnalyticsProcessor, type RecountResult } from '../../src/processors/recount-analytics.ts'
import { createSite } from '../db/main-app.ts'
import { one, rollUp, view } from '../db/rollups/rollup-fixtures.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
let siteId: number

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.execute(sql`DELETE FROM website_sites`)
  await database.db.execute(sql`DELETE FROM website_worker.rollup_sites`)
  await database.db.execute(sql`DELETE FROM website_worker.analytics_dirty`)
  siteId = await createSite(database.db, { timezone: 'Asia/Kolkata' })
})

const logged: string[] = []
const log = pino({ level: 'error' }, { write: (line: string) => void logged.push(line) })

async function recount(signal = new AbortController().signal) {
  logged.length = 0
  const outcome = await recountAnalyticsProcessor.process(
    {},
    // So many that none is missed.
    { rollups: { db: database.db }, recounted: { days: 60, hours: 2_000 } },
    { workId: 1, attempt: 1, trigger: 'schedule', lane: null, loaded: undefined, log, signal, progress: () => {} },
  )
  return outcome as { kind: string; result: RecountResult }
}

const dirty = () => one<number>(database.db, sql`SELECT count(*)::int FROM website_worker.analytics_dirty`)

/** A day with everything: bots, nobody's views, visits over midnight and over a pause, long URLs, events. */
async function fill() {
  const day = '2026-03-01'
  await view(
    database.db,
    siteId,
    {
      at: `${day} 05:00`,
      url: 'https://shop.example/a?x=1',
      session: 'ann',
      referrer: 'https://News.example/x',
      source: 'mail',
    },
    { at: `${day} 05:10`, url: 'https://shop.example/b', session: 'ann' },
    { at: `${day} 06:00`, url: 'https://shop.example/b', session: 'ann' },
    { at: `${day} 05:15`, url: `/${'long'.repeat(1_000)}1`, session: 'bob' },
    { at: `${day} 05:16`, url: `/${'long'.repeat(1_000)}2`, session: 'bob' },
    { at: `${day} 05:20`, url: '/a', session: null },
    { at: `${day} 05:21`, url: '/a', session: '' },
    { at: `${day} 05:22`, url: '/a', session: 'crawler', agent: 'Googlebot/2.1' },
    // Midnight in Kolkata is 18:30 in UTC.
    { at: '2026-02-28 18:20', url: '/late', session: 'cleo' },
    { at: '2026-02-28 18:40', url: '/early', session: 'cleo' },
    { at: `${day} 18:29`, url: '/last', session: 'dan' },
    { at: `${day} 18:35`, url: '/first', session: 'dan' },
  )
  await database.db.execute(
    sql`INSERT INTO website_events (site_id, event_type, event_name, session_id, created_at)
        SELECT ${siteId}, 'click', 'buy', s, ${day}::timestamp + interval '6 hours' FROM unnest(ARRAY['ann', 'ann', 'bob', NULL]) s`,
  )
  await rollUp(database.db, { siteId })
}

test('finds nothing where nothing is wrong', async () => {
  await fill()
  const { kind, result } = await recount()
  expect(kind).toBe('done')
  expect(result).toMatchObject({ sites: 1, drifted: 0, drift: [] })
  expect(result.buckets).toBeGreaterThan(6)
  expect(logged).toEqual([])
  expect(await dirty()).toBe(0)
})

describe('what was tampered with', () => {
  test.each([
    ['site_daily', `UPDATE website_analytics_site_daily SET visit_seconds = visit_seconds + 1`],
    ['page_daily', `DELETE FROM website_analytics_page_daily WHERE page_path = '/b'`],
    [
      'dimensions_daily',
      `UPDATE website_analytics_dimensions_daily SET visits = visits + 1 WHERE dimension = 'referrer_host'`,
    ],
    ['events_daily', `UPDATE website_analytics_events_daily SET visitors = 9`],
    ['visits', `UPDATE website_analytics_visits SET ended_at = ended_at + interval '1 second'`],
    ['page_hourly', `UPDATE website_analytics_page_hourly SET pageviews = pageviews + 1`],
    [
      'page_hourly',
      `INSERT INTO website_analytics_page_hourly SELECT site_id, hour, md5(hour::text)::uuid, NULL, '/x', 1, 1
       FROM (SELECT DISTINCT site_id, hour FROM website_analytics_page_hourly) h`,
    ],
  ])('in %s is reported and computed again: %s', async (table, statement) => {
    await fill()
    await database.db.execute(sql.raw(statement))
    const { result } = await recount()
    expect(new Set(result.drift.map((drift) => drift.table))).toEqual(new Set([table]))
    expect(result.drift[0]).toMatchObject({ siteId, bucket: expect.stringMatching(/^2026-0[23]/) })
    expect(logged.join('\n')).toContain(table)
    expect(await dirty()).toBeGreaterThan(0)
    await rollUp(database.db, { siteId })
    expect((await recount()).result).toMatchObject({ drifted: 0 })
  })

  test('in raw rows behind the back of the triggers is found, too', async () => {
    await fill()
    const client = await database.pool.connect()
    await client.query(`SET session_replication_role = replica`)
    await client.query(`DELETE FROM website_pageviews WHERE session_id = 'ann'`)
    client.release(true)
    const { result } = await recount()
    expect(new Set(result.drift.map((drift) => drift.table))).toEqual(
      new Set(['site_daily', 'page_daily', 'dimensions_daily', 'visits', 'page_hourly']),
    )
  })
})

describe('leaves alone', () => {
  const tamper = () => database.db.execute(sql`UPDATE website_analytics_site_daily SET visitors = visitors + 1`)

  test('what is to be computed anyway', async () => {
    await fill()
    await view(database.db, siteId, { at: '2026-03-01 08:00' })
    expect((await recount()).result).toMatchObject({ sites: 1, buckets: 0, drifted: 0 })
  })

  test('what is sealed', async () => {
    await fill()
    await tamper()
    await database.db.execute(sql`UPDATE website_worker.rollup_sites SET sealed_before = '2026-04-01'`)
    expect((await recount()).result).toMatchObject({ drifted: 0 })
    expect(await dirty()).toBe(0)
  })

  test('a site whose zone has changed, until it is computed for that', async () => {
    await fill()
    await database.db.execute(sql`UPDATE website_sites SET timezone = 'UTC' WHERE id = ${siteId}`)
    expect((await recount()).result).toMatchObject({ buckets: 0 })
    await rollUp(database.db, { siteId })
    expect((await recount()).result).toMatchObject({ drifted: 0 })
  })

  test('a site whose rollups are off', async () => {
    await fill()
    await tamper()
    await disableDomain(database.db, 'rollups', siteId)
    expect((await recount()).result).toEqual({ sites: 0, buckets: 0, drifted: 0, drift: [] })
    await enableDomain(database.db, 'rollups', siteId)
  })
})

test('a bot that was forgotten since is still one', async () => {
  await fill()
  await database.db.execute(sql`DELETE FROM website_worker.user_agents`)
  expect((await recount()).result).toMatchObject({ drifted: 0 })
})

test('stops when it is told to', async () => {
  await fill()
  expect(await recount(AbortSignal.abort())).toMatchObject({ kind: 'retry' })
})
