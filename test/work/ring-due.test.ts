import { sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { defineJob } from '../../src/queues/define-job.ts'
import type { QueueBackend } from '../../src/work/backend.ts'
import type { Bell } from '../../src/work/bell.ts'
import { createDueRinger, type RingDueOptions } from '../../src/work/ring-due.ts'
import type { Ring } from '../../src/work/transitions.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
afterEach(() => database.db.execute(sql`TRUNCATE website_worker.work RESTART IDENTITY`))

const jobs = ['one', 'two'].map(
  (name) =>
    defineJob({
      name,
      domain: 'maintenance',
      schema: z.object({}),
      key: [],
      retry: { waitsMs: [0] },
      worker: { concurrency: 1 },
    }) as never,
)
const owe = (job: string, count: number, inSeconds = -60) =>
  database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, next_at)
        SELECT ${job}, gen_random_uuid()::text, '{}', now() + ${inSeconds} * interval '1 s' FROM generate_series(1, ${count}::int)`,
  )

/** A queue and a bell that are what a test says. */
function ringer(
  options: RingDueOptions = {},
  {
    refuse = () => false,
    counts = async () => ({ waiting: 0, delayed: 0 }),
  }: { refuse?: (rings: readonly Ring[]) => boolean; counts?: () => Promise<Record<string, number>> } = {},
) {
  const rung: Ring[] = []
  const bell = {
    ready: () => true,
    async ringNow(_: string, rings: readonly Ring[]) {
      if (refuse(rings)) throw new Error('no')
      rung.push(...rings)
    },
  } as unknown as Bell
  const backend = { queue: () => ({ getJobCounts: counts }) } as unknown as QueueBackend
  const ringDue = createDueRinger({ db: database.db, bell, backend, log: pino({ level: 'silent' }) }, options)
  return { rung, ringDue: () => ringDue(jobs, async () => true) }
}

test('a call that has no more time has rung a page of every job, and the next goes on', async () => {
  await owe('one', 2_500)
  await owe('two', 10)
  const { ringDue } = ringer({ budgetMs: 0 })
  expect([await ringDue(), await ringDue(), await ringDue(), await ringDue()]).toEqual([1_010, 1_000, 500, 0])
})

test('with time enough one call rings everything', async () => {
  await owe('one', 2_500)
  expect(await ringer({ budgetMs: 60_000 }).ringDue()).toBe(2_500)
})

test('no page is added while the queue holds enough of the job', async () => {
  await owe('one', 3_000)
  let waiting = 0
  const { ringDue, rung } = ringer(
    { budgetMs: 60_000, mostInQueue: 2_000 },
    { counts: async () => ({ waiting, delayed: 0 }) },
  )
  waiting = 2_000
  expect(await ringDue()).toBe(0)
  waiting = 1_999
  expect(await ringDue()).toBe(3_000)
  expect(rung).toHaveLength(3_000)
})

test('rings that wait for their time do not keep back what is due', async () => {
  await owe('one', 3)
  await owe('one', 5, 300)
  const { ringDue, rung } = ringer({ mostInQueue: 100 }, { counts: async () => ({ waiting: 0, delayed: 100 }) })
  expect(await ringDue()).toBe(3)
  expect(rung.map((ring) => ring.delayMs)).toEqual([0, 0, 0])
})

test('a ring knows how long until it is due by the clock of Postgres', async () => {
  await owe('one', 1, 300)
  const { ringDue, rung } = ringer()
  await ringDue()
  expect(rung[0]?.delayMs).toBeGreaterThan(290_000)
  expect(rung[0]?.delayMs).toBeLessThanOrEqual(300_000)
})

test('a refused page ends the turn of its job alone, and never keeps back what stands behind it', async () => {
  await owe('one', 1_500, -120)
  await owe('two', 10)
  let refusals = 0
  const { ringDue } = ringer({ budgetMs: 60_000 }, { refuse: (rings) => rings[0]?.workId === 1 && (refusals += 1) > 0 })
  expect(await ringDue()).toBe(10)
  expect(refusals).toBe(1)
  expect(await ringDue()).toBe(500)
  expect(await ringDue()).toBe(0)
  expect(refusals).toBe(2)
})

test('a queue that never answers costs one deadline, however many jobs wait', async () => {
  await owe('one', 10)
  await owe('two', 10)
  const { ringDue } = ringer({ deadlineMs: 1_000 }, { counts: () => new Promise(() => {}) })
  const began = performance.now()
  expect(await ringDue()).toBe(0)
  expect(performance.now() - began).toBeLessThan(1_900)
})
