import { eq, sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import { queuePauses, schedules, work } from '../../src/db/schema/worker.ts'
import { createDispatcher } from '../../src/work/dispatcher.ts'
import { spreadSeconds } from '../../src/queues/spread.ts'
import { keepSchedules } from '../../src/work/schedules.ts'
import { createLostRingSweep } from '../../src/work/lost-rings.ts'
import { createStack, type Stack, type TestJob } from '../fixtures/stack.ts'
import { takeNote } from '../fixtures/take-note.ts'

let stack: Stack
afterEach(() => stack.close())

const note: TestJob = {
  definition: takeNote,
  processor: { process: async () => ({ kind: 'done' }) },
}
const enqueue = (n: number) => enqueueItem(stack.db, 'take-note', { n }, { rung: false })
const states = async () => {
  const { rows } = await stack.db.execute(
    sql`SELECT state, count(*)::int AS n FROM website_worker.work GROUP BY state ORDER BY state`,
  )
  return Object.fromEntries(rows.map((row) => [row.state, row.n]))
}

describe.each(['redis', 'postgres'] as const)('on %s', (backend) => {
  const begin = async () => {
    stack = await createStack({ backend, jobs: [note] })
  }

  test('rings what is due within ten minutes and leaves the rest in rows', async () => {
    await begin()
    const soon = await enqueue(1)
    const late = await enqueue(2)
    await stack.db
      .update(work)
      .set({ nextAt: sql`now() + interval '9 minutes'` })
      .where(eq(work.id, soon.workId))
    await stack.db
      .update(work)
      .set({ nextAt: sql`now() + interval '11 minutes'` })
      .where(eq(work.id, late.workId))
    await stack.dispatcher.tick()
    const queue = stack.backend.queue('take-note')
    expect(await queue.getJobCounts('delayed', 'waiting')).toEqual({ delayed: 1, waiting: 0 })
    const [ring] = await queue.getDelayed()
    expect(ring?.id).toBe(`${soon.workId}-1`)
    expect(ring?.data).toEqual({ workId: soon.workId, generation: 1 })
  })

  test('ten thousand broken items at the head do not delay a healthy one', async () => {
    await begin()
    await stack.db.execute(
      sql`INSERT INTO website_worker.work (job, key, payload, next_at)
          SELECT 'take-note', 'broken ' || i, '{"n":"x"}', now() - interval '1 hour' FROM generate_series(1, 10000) i`,
    )
    const healthy = await enqueue(1)
    stack.work()
    await stack.dispatcher.tick()
    await vi.waitFor(async () => {
      const [item] = await stack.db.select().from(work).where(eq(work.id, healthy.workId))
      expect(item?.state).toBe('done')
    }, 2_000)
    expect(await states()).toEqual({ done: 1, failed: 10_000 })
  })

  test('a ring that vanished between commit and run is found and rung anew', async () => {
    await begin()
    const { workId } = await enqueueItem(stack.db, 'take-note', { n: 1 }, { rung: true })
    await stack.db
      .update(work)
      .set({ rungAt: sql`now() - interval '1 minute'`, nextAt: sql`now() - interval '1 minute'` })
    expect(await createLostRingSweep(stack)()).toBe(1)
    stack.work()
    await stack.dispatcher.tick()
    await vi.waitFor(async () => expect(await states()).toEqual({ done: 1 }))
    const [item] = await stack.db.select().from(work).where(eq(work.id, workId))
    expect(item?.generation).toBe(2)
  })

  test('a long backlog that is still in the queue is not rung twice', async () => {
    await begin()
    for (let n = 0; n < 5; n++) await enqueue(n)
    await stack.dispatcher.tick()
    await stack.db.update(work).set({ rungAt: sql`now() - interval '1 hour'`, nextAt: sql`now() - interval '1 hour'` })
    expect(await createLostRingSweep(stack)()).toBe(0)
  })
})

describe('the dispatcher', () => {
  const begin = async (jobs = [note]) => {
    stack = await createStack({ backend: 'redis', jobs })
  }

  test('is one at a time, and another takes over at once from one that stops and within 5 s from one that died', async () => {
    await begin()
    const other = await createStack({ backend: 'redis', jobs: [note], database: stack.database })
    try {
      expect(await stack.dispatcher.tick()).toBe(true)
      expect(await other.dispatcher.tick()).toBe(false)
      await stack.dispatcher.stop()
      expect(await other.dispatcher.tick()).toBe(true)
      const { rows } = await stack.db.execute(
        sql`SELECT until - now() <= interval '5 s' AS soon FROM website_worker.leader`,
      )
      expect(rows[0]?.soon).toBe(true)
      expect(await stack.dispatcher.tick()).toBe(false)
      await stack.db.execute(sql`UPDATE website_worker.leader SET until = now() - interval '1 s'`)
      expect(await stack.dispatcher.tick()).toBe(true)
    } finally {
      await other.close({ keepDatabase: true })
    }
  })

  test('owes again what a vanished process had leased, and gives it up after twenty crashes', async () => {
    await begin()
    const { workId } = await enqueue(1)
    const expire = () =>
      stack.db
        .update(work)
        .set({ state: 'running', leaseToken: crypto.randomUUID(), leaseUntil: sql`now() - interval '1 s'` })
        .where(eq(work.id, workId))
    await expire()
    await stack.dispatcher.tick()
    expect((await stack.db.select().from(work))[0]).toMatchObject({
      state: 'owed',
      crashes: 1,
      generation: 2,
      leaseToken: null,
    })
    await stack.db.update(work).set({ crashes: 19 })
    await expire()
    await stack.dispatcher.tick()
    expect((await stack.db.select().from(work))[0]).toMatchObject({ state: 'failed', crashes: 20, reason: 'crashed' })
  })

  test('makes one work item of all the runs a schedule missed', async () => {
    const scheduled: TestJob = {
      ...note,
      definition: {
        ...note.definition,
        name: 'tidy-up',
        key: [],
        schema: z.object({}),
        schedule: { everySeconds: 60 },
      },
    }
    await begin([scheduled])
    await keepSchedules(stack.db, [scheduled.definition])
    await stack.db.update(schedules).set({ nextAt: sql`now() - interval '1 day'` })
    await stack.dispatcher.tick()
    await stack.dispatcher.tick()
    expect(await states()).toEqual({ owed: 1 })
    const [row] = await stack.db.select().from(schedules)
    const seconds = (row?.nextAt.getTime() ?? 0) / 1_000
    expect(seconds % 60).toBe(spreadSeconds('tidy-up', 0, 60))
    expect(seconds * 1_000).toBeGreaterThan(Date.now())
    expect(seconds * 1_000).toBeLessThanOrEqual(Date.now() + 60_000)
  })

  test('discovers rows that nobody enqueued, and one failing discovery does not stop the rest', async () => {
    const found: TestJob = {
      ...note,
      processor: {
        ...note.processor,
        discover: async (db) => (await enqueueItem(db, 'take-note', { n: 7 }, { rung: false })).workId,
      },
    }
    const broken: TestJob = {
      definition: { ...note.definition, name: 'break-down' },
      processor: {
        ...note.processor,
        discover: async () => {
          throw new Error('no')
        },
      },
    }
    await begin([broken, found])
    stack.work()
    await stack.dispatcher.tick()
    await vi.waitFor(async () => expect(await states()).toEqual({ done: 1 }))
  })

  test('a step that never ends does not keep the others from happening, and is not begun twice', async () => {
    let begun = 0
    const stuck: TestJob = {
      definition: { ...note.definition, name: 'get-stuck' },
      processor: {
        ...note.processor,
        discover: () => {
          begun++
          return new Promise(() => {})
        },
      },
    }
    stack = await createStack({ backend: 'redis', jobs: [stuck, note] })
    const dispatcher = createDispatcher(
      {
        ...stack,
        jobs: [stuck.definition, note.definition],
        discover: new Map([['get-stuck', (db) => stuck.processor.discover!(db, undefined)]]),
        log: pino({ level: 'silent' }),
      },
      { stepMs: 200 },
    )
    await enqueue(1)
    stack.work()
    expect(await dispatcher.tick()).toBe(true)
    await vi.waitFor(async () => expect(await states()).toEqual({ done: 1 }))
    expect(await dispatcher.tick()).toBe(true)
    expect(begun).toBe(1)
    await dispatcher.stop()
  })

  test('a tick that lost its place on the way ends there', async () => {
    const slow: TestJob = {
      ...note,
      processor: {
        ...note.processor,
        discover: async (db) => {
          await db.execute(
            sql`UPDATE website_worker.leader SET holder = gen_random_uuid(), until = now() + interval '1 m'`,
          )
          await db.execute(sql`SELECT pg_sleep(0.2)`)
          return 0
        },
      },
    }
    await begin([slow])
    await enqueue(1)
    expect(await stack.dispatcher.tick()).toBe(false)
    expect((await stack.db.select().from(work))[0]?.rungAt).toBeNull()
  })

  test('what a domain switch held is released when it is turned on again', async () => {
    await begin()
    await stack.db.execute(
      sql`INSERT INTO website_worker.domains (domain, site_id, enabled) VALUES ('maintenance', 0, false)
          ON CONFLICT (domain, site_id) DO UPDATE SET enabled = false`,
    )
    await enqueue(1)
    await stack.dispatcher.tick()
    expect(await states()).toEqual({ held: 1 })
    await stack.db.execute(sql`UPDATE website_worker.domains SET enabled = true WHERE domain = 'maintenance'`)
    stack.work()
    await vi.waitFor(async () => {
      await stack.dispatcher.tick()
      expect(await states()).toEqual({ done: 1 })
    }, 10_000)
  })

  test('pauses of queues come back after the queue was wiped', async () => {
    await begin()
    await stack.dispatcher.tick()
    await stack.db.insert(queuePauses).values({ job: 'take-note' })
    await stack.backend.writeMark({ queueId: 'another', counter: 1 })
    await stack.dispatcher.tick()
    expect(await stack.backend.queue('take-note').isPaused()).toBe(true)
  })
})
