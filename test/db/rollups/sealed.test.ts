import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createSite } from '../main-app.ts'
import { readRollups, recount } from './recount.ts'
import { one, rollUp, view } from './rollup-fixtures.ts'

let database: TestDatabase
let siteId: number
beforeEach(async () => {
  database = await createTestDatabase()
  siteId = await createSite(database.db, { timezone: 'Asia/Kolkata' })
})
afterEach(() => database.drop())

test('leaves sealed days as they are when their rows are gone, and counts late rows aside', async () => {
  const { db } = database
  await view(
    db,
    siteId,
    { at: '2026-02-28 10:00', session: 'a' },
    { at: '2026-03-01 18:10', session: 'b' },
    { at: '2026-03-01 18:40', session: 'b' },
    { at: '2026-03-02 10:00', session: 'c' },
  )
  await rollUp(db, { siteId })
  const before = await readRollups(db)
  expect(before).toEqual(await recount(db))

  // The first day that begins in March in Kolkata is the second: the first began in February of UTC.
  await db.execute(sql`UPDATE website_worker.rollup_sites SET sealed_before = '2026-03-01T00:00:00Z'`)
  await db.execute(sql`DELETE FROM website_pageviews WHERE created_at < '2026-03-01'`)
  await view(db, siteId, { at: '2026-02-27 10:00', session: 'late' }, { at: '2026-03-01 10:00', session: 'late' })
  expect(await rollUp(db, { siteId, from: '2020-01-01' })).toMatchObject({ result: { late: 2 } })
  expect(await readRollups(db)).toEqual(before)
  const { rows } = await db.execute(
    sql`SELECT day::text, kind, rows::int FROM website_worker.analytics_late ORDER BY day`,
  )
  expect(rows).toEqual([
    { day: '2026-02-27', kind: 'pageviews', rows: 1 },
    { day: '2026-03-01', kind: 'pageviews', rows: 1 },
  ])

  await view(db, siteId, { at: '2026-03-01 18:50', session: 'b' }, { at: '2026-03-02 10:10', session: 'c' })
  await rollUp(db, { siteId })
  const after = await readRollups(db)
  expect(after.visits).toHaveLength(before.visits!.length)
  expect(after.visits!.find((visit) => visit.includes('session=c'))).toContain('pageviews=2')
  expect(after.site_daily!.find((day) => day.includes('day=2026-03-02'))).toContain('pageviews=4')
})

test('takes no pageview into a sealed visit, and makes no second one of it', async () => {
  const { db } = database
  await view(db, siteId, { at: '2026-03-01 18:20', session: 'a' }, { at: '2026-03-01 18:35', session: 'a' })
  await rollUp(db, { siteId })
  await db.execute(sql`UPDATE website_worker.rollup_sites SET sealed_before = '2026-03-01T18:30:00Z'`)
  await view(db, siteId, { at: '2026-03-01 18:55', session: 'a' }, { at: '2026-03-01 19:40', session: 'a' })
  await rollUp(db, { siteId })
  const visits = await db.execute(
    sql`SELECT started_at AT TIME ZONE 'UTC' || ' ' || pageviews AS visit FROM website_analytics_visits ORDER BY started_at`,
  )
  expect(visits.rows.map((row) => row.visit)).toEqual(['2026-03-01 18:20:00 2', '2026-03-01 19:40:00 1'])
  expect(await one(db, sql`SELECT pageviews FROM website_analytics_site_daily WHERE day = '2026-03-02'`)).toBe(3)
})

test('removes all of a site that is gone', async () => {
  const { db } = database
  await view(db, siteId, { at: '2026-03-01 10:00' })
  await rollUp(db, { siteId })
  await db.execute(sql`DELETE FROM website_sites WHERE id = ${siteId}`)
  expect(await rollUp(db, { siteId })).toMatchObject({ kind: 'done', result: { skipped: 'the site is gone' } })
  expect(Object.values(await readRollups(db)).flat()).toEqual([])
  expect(await one(db, sql`SELECT count(*)::int FROM website_worker.rollup_sites`)).toBe(0)
})

test('computes a range that was never noted, and heals what differs in it', async () => {
  const { db } = database
  await view(db, siteId, { at: '2026-01-10 10:00', session: 'a' }, { at: '2026-02-10 10:00', session: 'b' })
  await view(db, siteId, { at: '2026-03-10 10:00', session: 'c' })
  await db.execute(sql`DELETE FROM website_worker.analytics_dirty`)
  expect(await rollUp(db, { siteId, from: '2026-02-10', to: '2026-02-10' })).toMatchObject({ result: { hours: 1 } })
  expect((await readRollups(db)).site_daily).toHaveLength(1)
  await rollUp(db, { siteId, from: '2026-01-01T00:00:00Z' })
  expect(await readRollups(db)).toEqual(await recount(db))
  await db.execute(sql`UPDATE website_analytics_page_hourly SET pageviews = 7`)
  await db.execute(sql`UPDATE website_analytics_visits SET ended_at = started_at + interval '1 hour'`)
  await db.execute(sql`DELETE FROM website_analytics_dimensions_daily`)
  await rollUp(db, { siteId, from: '2026-01-01' })
  expect(await readRollups(db)).toEqual(await recount(db))
})
