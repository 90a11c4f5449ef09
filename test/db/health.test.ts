import { sql, TransactionRollbackError } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Finding } from '../../src/db/drift.ts'
import { examine } from '../../src/db/health.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

/** What it finds while changes stand; they are undone. */
async function examineAfter(change: string): Promise<Finding[]> {
  let findings: Finding[] = []
  const undone = database.db.transaction(async (tx) => {
    await tx.execute(sql.raw(change))
    findings = await examine(tx)
    tx.rollback()
  })
  await expect(undone).rejects.toThrow(TransactionRollbackError)
  return findings
}

const textOf = (findings: readonly Finding[]) => findings.map(({ level, what }) => `${level}: ${what}`)

test('on a young database says only what it can not tell yet', async () => {
  expect(textOf(await examine(database.db))).toEqual([
    expect.stringMatching(
      /^note: which indexes no one uses can't be told yet: statistics are kept since \d{4}-\d\d-\d\d only$/,
    ),
    expect.stringContaining('note: slow statements'),
  ])
})

test('warns of ids that run out', async () => {
  const findings = await examineAfter(`SELECT setval('website_pageviews_id_seq', 2000000000)`)
  expect(textOf(findings)[0]).toBe('warning: website_pageviews has used 93.1 % of the ids an INTEGER can hold')
})

test('warns of dead rows and of statistics that are old', async () => {
  await database.pool.query(`
    ALTER TABLE website_events SET (autovacuum_enabled = false);
    INSERT INTO website_events (event_type, event_name) SELECT 'click', 'e' FROM generate_series(1, 20000)`)
  await database.pool.query('DELETE FROM website_events WHERE id % 4 > 0')
  await database.pool.query('SELECT pg_stat_force_next_flush()')
  // Statistics are the session's to send: the pool's others may have some, too.
  await expect
    .poll(async () => textOf(await examine(database.db)).filter((text) => text.includes('website_events')))
    .toEqual([
      'warning: website_events has 15000 dead rows beside 5000 live ones; it was never vacuumed',
      "warning: the planner's statistics of website_events are 35000 changes old; it was never analyzed",
    ])
})

test('names an invalid index of a table of ours', async () => {
  await database.pool.query(`INSERT INTO website_worker.lane_limits (lane) VALUES ('a'), ('b')`)
  const broken =
    'CREATE UNIQUE INDEX CONCURRENTLY broken ON website_worker.lane_limits (max_concurrent) NULLS NOT DISTINCT'
  await expect(database.pool.query(broken)).rejects.toThrow('could not create unique index')
  expect(await examine(database.db)).toContainEqual({
    level: 'warning',
    what: 'index website_worker.broken on website_worker.lane_limits is invalid: no statement uses it',
    fix: 'REINDEX INDEX CONCURRENTLY website_worker.broken',
  })
})
