import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { forgetClassified } from '../../../src/db/queries/rollups/classify.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createSite } from '../main-app.ts'
import { readRollups, recount } from './recount.ts'
import { one, rollUp, view } from './rollup-fixtures.ts'

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

test('forgets user agents and referrers that nothing has had for long, and judges them anew', async () => {
  const { db } = database
  const bot = {
    at: '2026-03-01 12:00',
    agent: 'Mozilla/5.0 (compatible; Googlebot/2.1)',
    referrer: 'https://a.example/b',
  }
  await view(db, siteId, bot, { ...bot, agent: null })
  await rollUp(db, { siteId })
  const known = sql`SELECT (SELECT count(*) FROM website_worker.user_agents) || ' ' || (SELECT count(*) FROM website_worker.referrer_hosts)`
  await db.execute(sql`UPDATE website_worker.user_agents SET is_bot = false, seen_on = seen_on - 31`)
  expect(await forgetClassified(db, new AbortController().signal)).toBe(0)
  await view(db, siteId, bot)
  await rollUp(db, { siteId })
  await expectExact()
  await db.execute(sql`UPDATE website_worker.user_agents SET seen_on = seen_on - 61`)
  await db.execute(sql`UPDATE website_worker.referrer_hosts SET seen_on = seen_on - 61`)
  expect(await forgetClassified(db, new AbortController().signal)).toBe(2)
  expect(await one(db, known)).toBe('0 0')
  await view(db, siteId, bot)
  await rollUp(db, { siteId })
  await expectExact()
})
