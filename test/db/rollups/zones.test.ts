import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createSite } from '../main-app.ts'
import { readRollups, recount } from './recount.ts'
import { one, rollUp } from './rollup-fixtures.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
  await database.pool.query(`ALTER DATABASE ${new URL(database.url).pathname.slice(1)} SET timezone = 'Asia/Kolkata'`)
})
afterAll(() => database.drop())
beforeEach(() => void vi.stubEnv('TZ', 'America/New_York'))
afterEach(() => void vi.unstubAllEnvs())

/** Pageviews and events every thirteen minutes, for as long as a day is anywhere. */
async function writeAround(siteId: number, day: string) {
  const series = sql`FROM generate_series(${day}::timestamp - interval '15 hours', ${day}::timestamp + interval '30 hours', interval '13 minutes') t`
  await database.db.execute(sql`
    INSERT INTO website_pageviews (site_id, page_url, session_id, created_at)
    SELECT ${siteId}, '/p' || extract(minute FROM t)::int % 3, 's' || extract(hour FROM t)::int % 5, t ${series}`)
  await database.db.execute(sql`
    INSERT INTO website_events (site_id, event_type, event_name, session_id, created_at) SELECT ${siteId}, 'click', 'buy', 's', t ${series}`)
}

test.each([
  ['Asia/Kolkata', '2026-03-01', 24],
  ['Asia/Kathmandu', '2026-03-01', 24],
  ['Europe/Berlin', '2026-10-25', 25],
  ['America/New_York', '2026-03-08', 23],
  ['Australia/Lord_Howe', '2026-04-05', 25],
  ['Australia/Lord_Howe', '2026-10-04', 24],
  ['America/Havana', '2026-11-01', 25],
  ['Africa/Cairo', '2026-04-24', 23],
])('counts the hours and days of %s on %s, which has %i hours', async (timezone, day, hours) => {
  const siteId = await createSite(database.db, { timezone })
  await writeAround(siteId, day)
  await rollUp(database.db, { siteId })
  expect(await readRollups(database.db)).toEqual(await recount(database.db))
  const counted = sql`SELECT count(DISTINCT hour)::int FROM website_analytics_page_hourly
    WHERE site_id = ${siteId} AND (hour AT TIME ZONE ${timezone})::date = ${day}`
  expect(await one(database.db, counted)).toBe(hours)
})

test('counts everything again when a site moves to another timezone, and in UTC where there is no such zone', async () => {
  const siteId = await createSite(database.db, { timezone: 'Asia/Kolkata' })
  await writeAround(siteId, '2026-03-08')
  await rollUp(database.db, { siteId })
  for (const zone of ['America/New_York', 'Mars/Olympus', '', 'UTC+3', 'Asia/Kathmandu']) {
    await database.db.execute(sql`UPDATE website_sites SET timezone = ${zone} WHERE id = ${siteId}`)
    await rollUp(database.db, { siteId })
    expect(await readRollups(database.db), zone).toEqual(await recount(database.db))
  }
})
