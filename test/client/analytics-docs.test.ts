import { readFile } from 'node:fs/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createSite } from '../db/main-app.ts'
import { createRole } from '../db/roles.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { fillRollups } from './analytics-fixtures.ts'

const document = await readFile(new URL('../../docs/analytics.md', import.meta.url), 'utf8')
const queries = [...document.matchAll(/^```sql\n(.*?)^```/gms)].map((match) => match[1]!)

let database: TestDatabase
let mainApp: pg.Pool
beforeAll(async () => {
  database = await createTestDatabase()
  const role = await createRole(database.pool)
  await database.pool.query(`GRANT SELECT ON website_pageviews TO ${role.name}`)
  mainApp = new pg.Pool({ connectionString: role.urlOf(database.url) })
  const siteIds: number[] = []
  for (let n = 0; n < 60; n++) siteIds.push(await createSite(database.db))
  await database.pool.query(
    `INSERT INTO website_worker.analytics_dirty (site_id, hour, kind)
     SELECT s, date_trunc('hour', now()) - n % 30 * interval '1 hour', 'pageviews'
     FROM unnest($1::int[]) s, generate_series(1, 300) n`,
    [siteIds],
  )
  await fillRollups(database.pool, siteIds, '2026-03-15')
})
afterAll(async () => {
  await mainApp.end()
  await database.drop()
})

test('the document shows how to ask for everything there is', () => {
  for (const name of [
    'site_daily',
    'page_hourly',
    'page_daily',
    'dimensions_daily',
    'events_daily',
    'visits',
    'visitors',
  ]) {
    expect(queries.join('\n')).toContain(`website_analytics_${name}`)
  }
  expect(queries.join('\n')).toContain('website_analytics_freshness')
})

test.each(queries.map((query) => [query.split('\n')[0]!, query]))('%s runs, and by index', async (_, query) => {
  await mainApp.query(query)
  const { rows } = await mainApp.query(`EXPLAIN ${query}`)
  const plan = rows.map((row) => row['QUERY PLAN'] as string).join('\n')
  expect(plan).not.toMatch(/Seq Scan on website_analytics|Seq Scan on analytics_dirty/)
  expect(plan).toMatch(/Index (Only )?Scan|Bitmap Index Scan/)
})
