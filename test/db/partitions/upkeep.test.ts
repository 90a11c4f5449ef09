import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { enablePartitions } from '../../../src/db/partitions/convert.ts'
import { keepPartitions } from '../../../src/db/partitions/upkeep.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { fillPageviews, maintaining } from './conversion.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

const table = 'website_pageviews'
const query = async (text: string) => (await database.pool.query(text)).rows

describe('rows of a month that has no partition yet', () => {
  let siteId: number
  const write = (rows: number, at: string) =>
    `INSERT INTO ${table} (site_id, page_url, created_at) SELECT ${siteId}, '/', '${at}' FROM generate_series(1, ${rows})`
  beforeEach(async () => {
    siteId = await fillPageviews(database.db, 30)
    await maintaining(database, (db) => enablePartitions(db, table))
  })

  test('are moved to one of their own, also those written while that begins', async () => {
    await query(write(20, '2020-05-05'))
    const writer = await database.pool.connect()
    await writer.query('BEGIN')
    await writer.query(write(1, '2020-05-06'))
    const kept = keepPartitions(database.db)
    await vi.waitFor(async () => {
      const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
      expect(await query(waiting)).toHaveLength(1)
    })
    await writer.query('COMMIT')
    writer.release()
    expect(await kept).toEqual([{ table, made: ['2020-05-01'], defaultRows: 0 }])
    expect(await query(`SELECT FROM website_partitions.${table}_2020_05`)).toHaveLength(21)
  })

  test('stay where they are if they are too many, and keep no other month from being made', async () => {
    await query(write(11, '2020-05-05'))
    await query(write(2, '2021-03-03'))
    expect(await keepPartitions(database.db, { mostMoved: 10 })).toEqual([
      { table, made: ['2021-03-01'], defaultRows: 11, problem: expect.stringContaining('over 10 rows of 2020-05') },
    ])
  })
})
