import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { disableDomain } from '../../../src/db/domains.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { connectAsMainApp, createSite } from '../main-app.ts'
import { rollUp } from './rollup-fixtures.ts'

let database: TestDatabase
let siteId: number
beforeEach(async () => {
  database = await createTestDatabase()
  siteId = await createSite(database.db)
})
afterEach(() => database.drop())

/** The hours in the log, with how many rows were inserted; the log is emptied. */
async function takeLog(): Promise<string[]> {
  const { rows } = await database.db.execute(
    sql`DELETE FROM website_worker.analytics_dirty RETURNING kind || ' ' || hour || ' ' || rows AS line`,
  )
  return rows.map((row) => row.line as string).toSorted()
}

const insert = (table: string, values: string) =>
  table === 'website_events'
    ? `INSERT INTO website_events (event_type, event_name, site_id, created_at) VALUES ${values.replaceAll('(', `('a', 'b', `)}`
    : `INSERT INTO website_pageviews (page_url, site_id, created_at) VALUES ${values.replaceAll('(', `('/', `)}`

test.each(['pageviews', 'events'])(
  'notes, once a statement, the hours of %s that a role without any grant of ours writes far from UTC',
  async (kind) => {
    const table = `website_${kind}`
    const app = await connectAsMainApp(database)
    try {
      await app.query(
        insert(
          table,
          `(${siteId}, '2026-03-01 12:10'), (${siteId}, '2026-03-01 12:59:59.999999'), (${siteId}, '2026-03-01 13:00')`,
        ),
      )
      expect(await takeLog()).toEqual([`${kind} 2026-03-01 12:00:00+00 2`, `${kind} 2026-03-01 13:00:00+00 1`])
      await app.query(`UPDATE ${table} SET created_at = '2026-03-02 00:30' WHERE created_at = '2026-03-01 13:00'`)
      expect(await takeLog()).toEqual([`${kind} 2026-03-01 13:00:00+00 0`, `${kind} 2026-03-02 00:00:00+00 0`])
      await app.query(`DELETE FROM ${table}`)
      expect(await takeLog()).toEqual([`${kind} 2026-03-01 12:00:00+00 0`, `${kind} 2026-03-02 00:00:00+00 0`])
      await app.query(`UPDATE ${table} SET session_id = 'nobody'`)
      await app.query(`INSERT INTO ${table} SELECT * FROM ${table}`)
      expect(await takeLog()).toEqual([])
      await expect(app.query('SELECT FROM website_worker.analytics_dirty')).rejects.toThrow('permission denied')
    } finally {
      await app.end()
    }
  },
)

test('takes rows without a site, without a time, and from beyond all times as they come', async () => {
  const values = [
    'NULL, CURRENT_TIMESTAMP',
    `${siteId}, NULL`,
    `${siteId}, 'infinity'`,
    `${siteId}, '-infinity'`,
    `${siteId}, '4000-01-01 BC'`,
  ]
  for (const row of values) await database.pool.query(insert('website_pageviews', `(${row})`))
  await database.pool.query(`UPDATE website_pageviews SET page_url = '/b'`)
  expect(await takeLog()).toEqual([])
  expect(await rollUp(database.db, { siteId, from: '1970-01-01' })).toMatchObject({
    kind: 'done',
    result: { hours: 0 },
  })
  await database.pool.query('DELETE FROM website_pageviews')
})

test('notes that everything of a table changed when it is emptied', async () => {
  await rollUp(database.db, { siteId })
  await database.pool.query('TRUNCATE website_events')
  expect(await takeLog()).toEqual(['events -infinity 0'])
})

test('notes nothing while rollups are off everywhere, nor what an archiver moves away', async () => {
  await database.pool.query(insert('website_pageviews', `(${siteId}, '2026-03-01')`))
  await takeLog()
  await database.pool.query(`BEGIN; SET LOCAL website_worker.archiving = 'on'; DELETE FROM website_pageviews; COMMIT`)
  expect(await takeLog()).toEqual([])
  await disableDomain(database.db, 'rollups')
  await database.pool.query(insert('website_pageviews', `(${siteId}, '2026-03-01')`))
  expect(await takeLog()).toEqual([])
})

test('notes what is written to a partitioned table', async () => {
  const { pool } = database
  const { rows } = await pool.query<{ trigger: string }>(
    `SELECT pg_get_triggerdef(oid) AS trigger FROM pg_trigger WHERE tgrelid = 'website_pageviews'::regclass AND tgname LIKE 'note_%'`,
  )
  await pool.query(`ALTER TABLE website_pageviews RENAME TO plain;
    CREATE TABLE website_pageviews (LIKE plain INCLUDING DEFAULTS) PARTITION BY RANGE (created_at);
    CREATE TABLE march PARTITION OF website_pageviews FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
    CREATE TABLE other PARTITION OF website_pageviews DEFAULT`)
  for (const { trigger } of rows) await pool.query(trigger)
  await pool.query(insert('website_pageviews', `(${siteId}, '2026-03-31 23:30'), (${siteId}, '2026-04-01')`))
  await pool.query(`UPDATE website_pageviews SET created_at = '2026-04-01 01:00' WHERE created_at = '2026-03-31 23:30'`)
  expect(await takeLog()).toEqual([
    'pageviews 2026-03-31 23:00:00+00 0',
    'pageviews 2026-03-31 23:00:00+00 1',
    'pageviews 2026-04-01 00:00:00+00 1',
    'pageviews 2026-04-01 01:00:00+00 0',
  ])
})
