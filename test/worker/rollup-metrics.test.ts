import { sql } from 'drizzle-orm'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { disableDomain, enableDomain } from '../../src/db/domains.ts'
import { createRollupMetrics } from '../../src/worker/rollup-metrics.ts'
import { createSite } from '../db/main-app.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining } from '../fixtures/plans.ts'

let database: TestDatabase
let siteId: number
beforeAll(async () => {
  database = await createTestDatabase()
  siteId = await createSite(database.db)
})
afterAll(() => database.drop())

async function read(db = database.db) {
  const registry = new Registry()
  await createRollupMetrics(registry, 10_000)(db)
  const metrics = await registry.getMetricsAsJSON()
  return Object.fromEntries(
    metrics.map(({ name, values }) => [name.slice('website_worker_rollup_'.length), values[0]?.value]),
  )
}

const dirty = (minutes: number | null, rolledMinutes: number | null = null) =>
  database.db.execute(
    sql`WITH site AS (
          INSERT INTO website_worker.rollup_sites (site_id, rolled_through) VALUES (${siteId}, now() - ${rolledMinutes} * interval '1 minute')
          ON CONFLICT (site_id) DO UPDATE SET rolled_through = excluded.rolled_through)
        INSERT INTO website_worker.analytics_dirty (site_id, hour, kind, at)
        SELECT ${siteId}::int, date_trunc('hour', now()), 'pageviews', now() - ${minutes} * interval '1 minute'`,
  )

test('nothing lags where everything is counted', async () => {
  expect(await read()).toEqual({ lag_seconds: 0, dirty_sites: 0, drift_buckets: undefined })
})

test('what waits lags by how long it has waited, and not by how long nothing came', async () => {
  await dirty(2, 10_000)
  const found = await read()
  expect(found).toMatchObject({ dirty_sites: 1 })
  expect(found.lag_seconds).toBeGreaterThanOrEqual(120)
  expect(found.lag_seconds).toBeLessThan(180)
  await disableDomain(database.db, 'rollups', siteId)
  expect(await read()).toMatchObject({ lag_seconds: 0, dirty_sites: 0 })
  await enableDomain(database.db, 'rollups', siteId)
})

test('a past that is being counted again is no lag', async () => {
  await database.db.execute(sql`DELETE FROM website_worker.analytics_dirty`)
  await dirty(null)
  expect(await read()).toMatchObject({ lag_seconds: 0, dirty_sites: 1 })
})

test('drift is that of the last recount, found by index', async () => {
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, result)
        SELECT 'recount-analytics', '', '{}', 'done', jsonb_build_object('drifted', n) FROM unnest(ARRAY[9, 3]) n`,
  )
  await database.db.execute(
    sql`INSERT INTO website_worker.analytics_dirty (site_id, hour, kind)
        SELECT ${siteId}::int, date_trunc('hour', now()) - n % 200 * interval '1 hour', 'events' FROM generate_series(1, 20000) n`,
  )
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state) SELECT 'j', n::text, '{}', 'done' FROM generate_series(1, 5000) n`,
  )
  await database.db.execute(sql`VACUUM ANALYZE website_worker.work, website_worker.analytics_dirty`)
  const { db, plans } = explaining(database.db)
  expect(await read(db)).toMatchObject({ drift_buckets: 3 })
  expect(plans[0]).not.toMatch(/Seq Scan on (work|analytics_dirty)/)
})
