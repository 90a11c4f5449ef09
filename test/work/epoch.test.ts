import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import { queuePauses } from '../../src/db/schema/worker.ts'
import { beginEpoch, refuseSecondQueue } from '../../src/work/epoch.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining } from '../fixtures/plans.ts'
import { startRedis, type RedisServer } from '../fixtures/redis.ts'
import { createStack, type Stack, type TestJob } from '../fixtures/stack.ts'
import { takeNote } from '../fixtures/take-note.ts'

let redis: RedisServer
let database: TestDatabase
let stack: Stack | undefined
let ran: number[]
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.stop())
afterEach(async () => {
  await stack?.close({ keepDatabase: true })
  stack = undefined
  await database.drop()
})

const job: TestJob = {
  definition: takeNote,
  processor: {
    process: async ({ n }: { n: number }) => {
      ran.push(n)
      return { kind: 'done' }
    },
  },
}

async function open(backend: 'redis' | 'postgres' = 'redis', prefix = 'epoch-test'): Promise<Stack> {
  stack = await createStack({ backend, jobs: [job], database, prefix, redisUrl: redis.url })
  return stack
}

async function owe(from: number, to: number) {
  for (let n = from; n <= to; n++) await enqueueItem(database.db, 'take-note', { n }, { rung: false })
}

async function allDone(on: Stack) {
  on.work()
  on.dispatcher.start()
  await vi.waitFor(async () => {
    const { rows } = await database.db.execute(
      sql`SELECT count(*)::int AS n FROM website_worker.work WHERE state <> 'done'`,
    )
    expect(rows[0]?.n).toBe(0)
  }, 20_000)
}

async function begin() {
  ran = []
  await redis.flush()
  database = await createTestDatabase()
}

describe('nothing owed is lost', () => {
  test('when Redis is wiped', async () => {
    await begin()
    const on = await open()
    await on.dispatcher.tick()
    await owe(1, 50)
    await on.dispatcher.tick()
    await redis.flush()
    await allDone(on)
    expect(ran.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i + 1))
  })

  test('when an old dump of Redis is restored under a running worker', async () => {
    await begin()
    const on = await open()
    await on.dispatcher.tick()
    await owe(1, 20)
    await on.dispatcher.tick()
    const dump = await redis.dump()
    on.work()
    await vi.waitFor(() => expect(ran).toHaveLength(20))
    await owe(21, 40)
    await on.backend.queue('take-note').pause()
    await database.db.insert(queuePauses).values({ job: 'take-note' })
    await on.dispatcher.tick()
    await redis.restore(dump)
    await vi.waitFor(() => expect(on.backend.ready()).toBe(true))
    await on.dispatcher.tick()
    expect(await on.backend.queue('take-note').isPaused()).toBe(true)
    await database.db.delete(queuePauses)
    await on.backend.queue('take-note').resume()
    await allDone(on)
    expect(ran.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1))
  })

  test('when Redis is swapped for an empty one', async () => {
    await begin()
    const on = await open()
    await on.dispatcher.tick()
    await owe(1, 20)
    await on.dispatcher.tick()
    await redis.restart({ empty: true })
    await vi.waitFor(() => expect(on.backend.ready()).toBe(true))
    await allDone(on)
    expect(ran).toHaveLength(20)
  })

  test.each([
    ['postgres', 'redis'],
    ['redis', 'postgres'],
  ] as const)('when the backend changes from %s to %s and back', async (first, second) => {
    await begin()
    let round = 0
    for (const backend of [first, second, first]) {
      const on = await open(backend)
      await owe(round * 10 + 1, round * 10 + 10)
      round++
      await on.dispatcher.tick()
      await on.close({ keepDatabase: true })
    }
    await allDone(await open(second))
    expect(ran.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1))
  })

  test('when Redis crashes and comes back without its last moments', async () => {
    await begin()
    const on = await open()
    await on.dispatcher.tick()
    const dump = await redis.dump()
    await owe(1, 10)
    await on.dispatcher.tick()
    await redis.restore(dump)
    await vi.waitFor(() => expect(on.backend.ready()).toBe(true))
    await on.dispatcher.tick()
    await on.dispatcher.tick()
    expect(await on.backend.queue('take-note').getJobCounts('waiting')).toEqual({ waiting: 10 })
  })

  test('when the wipe falls between reading the mark and counting it', async () => {
    await begin()
    const on = await open()
    await on.dispatcher.tick()
    const mark = await on.backend.readMark()
    await redis.flush()
    expect(await on.backend.advanceMark(mark?.queueId ?? '')).toBeNull()
    expect(await on.backend.readMark()).toBeNull()
  })
})

test('taking rings back walks each row once, also while an old transaction keeps dead ones', async () => {
  await begin()
  const on = await open()
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, rung_at)
        SELECT 'take-note', i::text, jsonb_build_object('n', i), now() FROM generate_series(1, 12000) i`,
  )
  const { db, plans } = explaining(database.db)
  const locker = await database.pool.connect()
  await locker.query('BEGIN')
  await locker.query(`SELECT FROM website_worker.work WHERE key = '7' FOR UPDATE`)
  expect(await beginEpoch(db, on.backend, ['take-note'])).toEqual({ rearmed: 11_999, first: true })
  await locker.query('ROLLBACK')
  locker.release()
  const batches = plans.filter((plan) => plan.includes('CTE batch'))
  expect(batches.map((plan) => plan.includes('ROW(next_at, id) >'))).toEqual([false, true, true, true, false])
})

test('a second queue on one database is refused while a process works with the first, and taken once it is gone', async () => {
  await begin()
  const first = await open()
  await first.dispatcher.tick()
  const second = await createStack({ backend: 'redis', jobs: [job], database, prefix: 'another', redisUrl: redis.url })
  try {
    await expect(refuseSecondQueue(database.db, second.backend, { patienceMs: 300 })).rejects.toThrow('different queue')
    await refuseSecondQueue(database.db, first.backend, { patienceMs: 300 })
    await first.dispatcher.stop()
    await refuseSecondQueue(database.db, second.backend, { patienceMs: 300 })
  } finally {
    await second.close({ keepDatabase: true })
  }
})

test('a healthy queue raises no alarm over many ticks', async () => {
  await begin()
  const on = await open()
  for (let i = 0; i < 10; i++) await on.dispatcher.tick()
  const { rows } = await database.db.execute(sql`SELECT alarms::int, counter::int FROM website_worker.epoch`)
  expect(rows[0]).toEqual({ alarms: 0, counter: 10 })
})
