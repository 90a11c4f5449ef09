import { eq, sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { createDatabase } from '../../src/db/client.ts'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import { askedAgain, work } from '../../src/db/schema/worker.ts'
import { defineJob } from '../../src/queues/define-job.ts'
import { oweAskedAgain } from '../../src/work/asked-again.ts'
import { createStack, type Stack, type TestJob } from '../fixtures/stack.ts'

/** Runs begun so far, each of which ends when the test says so. */
let runs: { end(): void }[]
let stack: Stack

function createJob(lease: boolean): TestJob {
  return {
    definition: defineJob({
      name: 'copy-page',
      domain: 'maintenance',
      schema: z.object({ n: z.int() }),
      key: ['n'],
      retry: { waitsMs: [0] },
      worker: { concurrency: 5 },
      ...(lease ? { leaseMs: 30_000 } : {}),
    }) as never,
    processor: {
      process: () => new Promise((resolve) => void runs.push({ end: () => resolve({ kind: 'done' }) })),
    },
  }
}

beforeEach(() => {
  runs = []
})
afterEach(async () => {
  for (const run of runs) run.end()
  await stack.close()
})

const ask = (n = 1) => enqueueItem(stack.db, 'copy-page', { n }, { rung: false })
const itemOf = async (id: number) => (await stack.db.select().from(work).where(eq(work.id, id)))[0]!
const asks = async () => (await stack.db.select().from(askedAgain)).length
const until = (id: number, state: string) =>
  vi.waitFor(async () => expect((await itemOf(id)).state).toBe(state), { timeout: 5_000 })
const begun = (count: number) => vi.waitFor(() => expect(runs).toHaveLength(count), { timeout: 5_000 })

/** An ask in a transaction that stays open until the end is asked for. */
async function askLater() {
  const client = await stack.database.pool.connect()
  await client.query('BEGIN')
  await client.query(`SELECT website_worker.enqueue('copy-page', '{"n": 1}')`)
  return async () => {
    await client.query('COMMIT')
    client.release()
  }
}

describe.each([
  ['without a lease', false],
  ['with a lease', true],
])('during a run %s', (_, lease) => {
  beforeEach(async () => {
    stack = await createStack({ backend: 'redis', jobs: [createJob(lease)] })
    stack.work()
  })

  async function beginRun(): Promise<number> {
    const { workId } = await ask()
    await stack.dispatcher.tick()
    await begun(1)
    return workId
  }

  async function runsOnceMore(workId: number) {
    expect(await oweAskedAgain(stack.db)).toBe(1)
    expect(await itemOf(workId)).toMatchObject({ state: 'owed', trigger: 'request', attempts: 0, finishedAt: null })
    await stack.dispatcher.tick()
    await begun(2)
    runs[1]!.end()
    await until(workId, 'done')
    expect([await oweAskedAgain(stack.db), await asks()]).toEqual([0, 0])
  }

  test('what was asked for again is done once more, however often it was asked', async () => {
    const workId = await beginRun()
    for (let n = 0; n < 20; n++) expect((await ask()).workId).toBe(workId)
    expect(await oweAskedAgain(stack.db)).toBe(0)
    expect(await asks()).toBe(1)
    runs[0]!.end()
    await until(workId, 'done')
    await runsOnceMore(workId)
  })

  test('so it is when the asker commits after the end', async () => {
    const workId = await beginRun()
    const commit = await askLater()
    runs[0]!.end()
    await until(workId, 'done')
    expect(await oweAskedAgain(stack.db)).toBe(0)
    await commit()
    await runsOnceMore(workId)
  })
})

describe('an ask for an item', () => {
  beforeEach(async () => {
    stack = await createStack({ backend: 'redis', jobs: [createJob(false)] })
  })

  const set = (id: number, values: Partial<typeof work.$inferInsert>) =>
    stack.db.update(work).set(values).where(eq(work.id, id))

  test.each([
    ['that was not rung yet', { state: 'owed' }],
    ['that is held', { state: 'held' }],
  ] as const)('%s is answered by the run that is ahead', async (_, values) => {
    const { workId } = await ask()
    await set(workId, values)
    await ask()
    expect([await oweAskedAgain(stack.db), await asks()]).toEqual([0, 0])
    expect(await itemOf(workId)).toMatchObject({ generation: 1 })
  })

  test('that was not rung yet is honoured when it ran before the asker committed', async () => {
    const { workId } = await ask()
    const commit = await askLater()
    await set(workId, { state: 'done', finishedAt: new Date() })
    await commit()
    expect(await oweAskedAgain(stack.db)).toBe(1)
  })

  test('that is gone is forgotten', async () => {
    const { workId } = await ask()
    await ask()
    await stack.db.delete(work).where(eq(work.id, workId))
    expect([await oweAskedAgain(stack.db), await asks()]).toEqual([0, 0])
  })

  test.each([
    ['is still ahead', { state: 'owed' }, [0, 0]],
    ['may have begun', { state: 'owed', rungAt: new Date() }, [0, 1]],
  ] as const)('that ended while a later one %s leaves that one alone', async (_, values, expected) => {
    const { workId } = await ask()
    await ask()
    await set(workId, { state: 'done', finishedAt: new Date() })
    const later = await ask()
    expect(later.created).toBe(true)
    await set(later.workId, values)
    expect([await oweAskedAgain(stack.db), await asks()]).toEqual(expected)
    await set(later.workId, { state: 'done', finishedAt: new Date() })
    expect(await oweAskedAgain(stack.db)).toBe(expected[1])
  })

  test('that someone is making anew keeps no other waiting', async () => {
    const items = []
    for (const n of [1, 2, 3]) {
      items.push((await ask(n)).workId)
      await ask(n)
    }
    await stack.db.update(work).set({ state: 'done', finishedAt: new Date() })
    const commit = await askLater()
    const dispatcher = createDatabase({ url: stack.url, max: 1, lockTimeoutMs: 100 })
    expect(await oweAskedAgain(dispatcher.db)).toBe(2)
    await commit()
    expect([await oweAskedAgain(dispatcher.db), await asks()]).toEqual([0, 0])
    await dispatcher.close()
  })

  test('is one of a thousand in a call, and none is forgotten', async () => {
    await stack.db.execute(
      sql`INSERT INTO website_worker.work (job, key, payload, state, finished_at)
          SELECT 'copy-page', 'k' || i, '{}', 'done', now() FROM generate_series(1, 20000) i`,
    )
    await stack.db.execute(
      sql`INSERT INTO website_worker.asked_again (work_id)
          SELECT id FROM website_worker.work WHERE id % 10 = 0 ORDER BY id LIMIT 1500`,
    )
    expect([await oweAskedAgain(stack.db), await oweAskedAgain(stack.db)]).toEqual([1_000, 500])
    expect([await oweAskedAgain(stack.db), await asks()]).toEqual([0, 0])
  })
})
