import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createSite } from '../main-app.ts'
import { readRollups, recount } from './recount.ts'
import { rollUp, view } from './rollup-fixtures.ts'

let database: TestDatabase
let siteId: number
beforeEach(async () => {
  database = await createTestDatabase()
  siteId = await createSite(database.db, { timezone: 'Europe/Berlin' })
})
afterEach(() => database.drop())

async function expectExact() {
  expect(await readRollups(database.db)).toEqual(await recount(database.db))
}

test('counts pageviews, visitors, visits, bounces and pages as a recount does', async () => {
  await view(
    database.db,
    siteId,
    {
      at: '2026-03-01 12:00',
      url: 'https://shop.example/a?x=1#y',
      session: 'a',
      referrer: 'https://www.google.com/search?q=1',
    },
    { at: '2026-03-01 12:10', url: '/b', session: 'a' },
    { at: '2026-03-01 12:40', url: '/b', session: 'a' },
    { at: '2026-03-01 23:30', url: '/b', session: 'b', source: 'mail' },
    { at: '2026-03-01 23:55', url: '/c', session: 'b' },
    { at: '2026-03-01 12:00', url: '/b', session: null },
    { at: '2026-03-01 12:00', url: '/b', session: 'g', agent: 'Mozilla/5.0 (compatible; Googlebot/2.1)' },
  )
  await database.db.execute(sql`
    INSERT INTO website_events (site_id, event_type, event_name, session_id, created_at)
    SELECT ${siteId}, 'click', 'buy', 's' || n % 3, '2026-03-01 10:00' FROM generate_series(1, 10) n`)
  expect(await rollUp(database.db, { siteId })).toMatchObject({ kind: 'done', result: { hours: 3 } })
  await expectExact()
  expect((await readRollups(database.db)).site_daily).toHaveLength(2)
})
