import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { QueueBackend } from '../../src/work/backend.ts'
import { createLostRingSweep } from '../../src/work/lost-rings.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining } from '../fixtures/plans.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, rung_at, next_at)
        SELECT 'j', i::text, '{}', now() - interval '1 hour', now() - i * interval '1 s' FROM generate_series(100, 20099) i`,
  )
  await database.db.execute(sql`VACUUM ANALYZE website_worker.work`)
})
afterAll(() => database.drop())

/** A queue that holds the rings of some work ids. */
const holding = (has: (workId: number) => boolean) =>
  ({
    queue: () => ({ getJob: async (id: string) => (has(Number.parseInt(id)) ? {} : undefined) }),
  }) as unknown as QueueBackend

test('the walk reads the list in its order instead of the whole table', async () => {
  const { db, plans } = explaining(database.db)
  await createLostRingSweep({ db, backend: holding(() => true) }, { pageSize: 100, budgetMs: 0 })()
  expect(plans[0]).toContain('Index Scan using work_owed_rung')
  expect(plans[0]).not.toMatch(/Seq Scan|Sort/)
})

test('a call takes as many pages as it has time for, and the next goes on from there', async () => {
  const backend = holding((workId) => workId % 2 === 0)
  const short = createLostRingSweep({ db: database.db, backend }, { pageSize: 100, budgetMs: 0 })
  expect([await short(), await short()]).toEqual([50, 50])
  const long = createLostRingSweep({ db: database.db, backend }, { pageSize: 5_000, budgetMs: 60_000 })
  const { rows } = await database.db.execute(
    sql`SELECT count(*)::int AS lost FROM website_worker.work WHERE rung_at IS NOT NULL AND id % 2 = 1`,
  )
  expect(await long()).toBe(rows[0]?.lost)
})
