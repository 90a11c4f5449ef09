import { eq, sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { z } from 'zod'
import { createDatabase } from '../../src/db/client.ts'
import { registerJobs } from '../../src/db/queries/enqueue.ts'
import { schedules, work } from '../../src/db/schema/worker.ts'
import { defineJob, type JobDefinition } from '../../src/queues/define-job.ts'
import { owedBySchedule } from '../../src/work/schedules.ts'
import { createSite } from '../db/main-app.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

const log = pino({ level: 'silent' })
const shared = { retry: { waitsMs: [0] }, worker: { concurrency: 1 } }
const tidy: JobDefinition = defineJob({
  ...shared,
  name: 'tidy',
  domain: 'maintenance',
  schema: z.object({}),
  key: [],
})
const sync: JobDefinition = defineJob({
  ...shared,
  name: 'sync-products',
  domain: 'erp',
  schema: z.object({ siteId: z.int() }),
  key: ['siteId'],
  subject: { field: 'siteId', table: 'website_sites' },
})

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
  await registerJobs(database.db, [tidy, sync])
})
afterEach(() => database.drop())

/** Schedules due for an hour, the first one longest. */
const schedule = (...rows: [job: string, siteId: number][]) =>
  database.db.insert(schedules).values(
    rows.map(([job, siteId], index) => ({
      job,
      siteId,
      everySeconds: 3_600,
      nextAt: sql`now() - interval '1 hour' + ${index} * interval '1 ms'` as never,
    })),
  )
const owed = async () => (await database.db.select().from(work).orderBy(work.id)).map(({ job, key }) => [job, key])
const due = async () => {
  const rows = await database.db
    .select()
    .from(schedules)
    .where(sql`${schedules.nextAt} <= now()`)
  return rows.map(({ job, siteId }) => [job, siteId])
}

test('a job that no release knows keeps no other schedule waiting, and is due when one knows it', async () => {
  await database.db.execute(
    sql`INSERT INTO website_worker.schedules (job, site_id, every_seconds, next_at)
        SELECT 'of-tomorrow', i, 60, now() - interval '1 day' FROM generate_series(1, 2000) i`,
  )
  await schedule(['tidy', 0])
  expect(await owedBySchedule(database.db, log)).toBe(1)
  expect(await owed()).toEqual([['tidy', '']])
  expect(await due()).toHaveLength(2_000)
})

test('rows that cannot become an item wait for their next period, and keep no other waiting', async () => {
  const siteId = await createSite(database.db)
  await schedule(['sync-products', 1_000_000], ['sync-products', 0], ['sync-products', siteId])
  expect(await owedBySchedule(database.db, log)).toBe(1)
  expect(await owed()).toEqual([['sync-products', String(siteId)]])
  expect(await due()).toEqual([])
})

test('a transaction that asks for the same keeps no other waiting, and is not overlooked', async () => {
  const [busy, free] = await Promise.all([createSite(database.db), createSite(database.db)])
  await schedule(['sync-products', busy], ['sync-products', free])
  const dispatcher = createDatabase({ url: database.url, max: 2, lockTimeoutMs: 200 })
  const client = await database.pool.connect()
  await client.query('BEGIN')
  await client.query('SELECT website_worker.enqueue($1, $2)', ['sync-products', { siteId: busy }])
  expect(await owedBySchedule(dispatcher.db, log)).toBe(1)
  expect(await owed()).toEqual([['sync-products', String(free)]])
  await client.query('ROLLBACK')
  client.release()

  const [row] = await database.db.select().from(schedules).where(eq(schedules.siteId, busy))
  const { rows } = await database.db.execute<{ wait: number }>(
    sql`SELECT extract(epoch FROM ${row!.nextAt.toISOString()}::timestamptz - now())::float8 AS wait`,
  )
  expect(rows[0]!.wait).toBeLessThan(5)
  await database.db.update(schedules).set({ nextAt: sql`now()` })
  await owedBySchedule(dispatcher.db, log)
  expect(await owed()).toContainEqual(['sync-products', String(busy)])
  await dispatcher.close()
})

test('a database that is away changes nothing', async () => {
  await schedule(['tidy', 0])
  const away = createDatabase({ url: database.url, max: 1 })
  await away.close()
  await expect(owedBySchedule(away.db, log)).rejects.toThrow()
  expect(await due()).toEqual([['tidy', 0]])
})
