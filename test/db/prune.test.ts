import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { pruneOwnTables } from '../../src/db/queries/prune.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { someoneWaits } from '../fixtures/plans.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

const prune = () => pruneOwnTables(database.db, { payloadsDays: 30, signal: new AbortController().signal })
const keys = async () => {
  const { rows } = await database.db.execute(sql`SELECT key FROM website_worker.work ORDER BY key`)
  return rows.map((row) => row.key)
}

test('an item that is owed again while old ones are removed stays', async () => {
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, finished_at)
        SELECT 'j', key, '{}', 'done', now() - days * interval '1 day'
        FROM (VALUES ('again', 8), ('old', 9), ('recent', 6)) AS items(key, days)`,
  )
  const owner = await database.pool.connect()
  await owner.query('BEGIN')
  await owner.query(`UPDATE website_worker.work SET state = 'owed', finished_at = NULL WHERE key = 'again'`)
  const pruning = prune()
  await someoneWaits(database.db)
  await owner.query('COMMIT')
  owner.release()
  expect(await pruning).toMatchObject({ workItems: 1 })
  expect(await keys()).toEqual(['again', 'recent'])
})

test('how far a replay came is kept as long as its item', async () => {
  const { rows } = await database.db.execute(
    sql`WITH item AS (INSERT INTO website_worker.work (job, key, payload) VALUES ('replay-webhook', '1', '{}') RETURNING id)
        INSERT INTO website_worker.webhook_replays (work_id, last_id, total)
        SELECT id, 1, 1 FROM item UNION ALL SELECT 999999, 1, 1 RETURNING work_id`,
  )
  expect(await prune()).toMatchObject({ replays: 1 })
  const left = await database.db.execute(sql`SELECT work_id FROM website_worker.webhook_replays`)
  expect(left.rows).toEqual(rows.slice(0, 1))
})
