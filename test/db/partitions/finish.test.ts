import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { enablePartitions, finishPartitions } from '../../../src/db/partitions/convert.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { fillPageviews, maintaining } from './conversion.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

const table = 'website_pageviews'
const enable = () => maintaining(database, (db) => enablePartitions(db, table))
const finish = () => maintaining(database, (db) => finishPartitions(db, table))
const query = async (text: string) => (await database.pool.query(text)).rows

test('finishing waits for who writes to several months, and keeps him from none', async () => {
  const siteId = await fillPageviews(database.db, 100)
  await enable()
  const writer = await database.pool.connect()
  const write = (at: string) =>
    writer.query(`INSERT INTO ${table} (site_id, page_url, created_at) VALUES (${siteId}, '/', ${at})`)
  await writer.query(`BEGIN; SET LOCAL lock_timeout = 500`)
  await write(`now() AT TIME ZONE 'UTC' - interval '2 months'`)
  const finished = finish()
  await vi.waitFor(async () => {
    const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
    expect(await query(waiting)).toHaveLength(1)
  })
  try {
    await write(`now() AT TIME ZONE 'UTC'`)
    await write(`'1999-01-01'`)
    await writer.query('COMMIT')
  } finally {
    writer.release(true)
    await finished
  }
  expect(await query(`SELECT count(*)::int AS n FROM ${table}`)).toEqual([{ n: 103 }])
})
