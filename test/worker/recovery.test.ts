import { eq, sql } from 'drizzle-orm'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createDatabase, transact, type Tx } from '../../src/db/client.ts'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import { work } from '../../src/db/schema/worker.ts'
import type { Outcome, RunContext } from '../../src/processors/contract.ts'
import { takeLease } from '../../src/work/transitions.ts'
import { startRedis } from '../fixtures/redis.ts'
import { createStack, type Stack, type StackOptions } from '../fixtures/stack.ts'
import { takeNote } from '../fixtures/take-note.ts'

let stack: Stack
afterEach(() => stack.close())

const definition = (leaseMs?: number) => ({
  ...takeNote,
  retry: { waitsMs: [0, 10, 10] },
  ...(leaseMs && { leaseMs }),
})

type Process = (payload: { n: number }, context: RunContext) => Promise<Outcome<number>>
async function given(
  process: Process,
  over: Partial<StackOptions> & { leaseMs?: number; resumable?: boolean; settle?: unknown } = {},
) {
  const { leaseMs, resumable = false, settle, ...options } = over
  const processor = {
    process: (payload: { n: number }, _: unknown, context: RunContext) => process(payload, context),
    settle,
  }
  stack = await createStack({
    backend: 'redis',
    jobs: [{ definition: { ...definition(leaseMs), resumable }, processor: processor as never }],
    ...options,
  })
}
const owe = async (n: number) => (await enqueueItem(stack.db, 'take-note', { n }, { rung: false })).workId
const itemOf = async (id: number) => (await stack.db.select().from(work).where(eq(work.id, id)))[0]!
const until = (id: number, state: string) =>
  vi.waitFor(async () => {
    const item = await itemOf(id)
    expect(item.state).toBe(state)
    return item
  }, 15_000)
const cut = () =>
  stack.db.execute(
    sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
  )

describe('a run whose end cannot be written yet', () => {
  test('because someone has locked its rows keeps no other waiting, and is not done again', async () => {
    const runs: number[] = []
    await given(
      async ({ n }) => {
        runs.push(n)
        return { kind: 'done', record: n }
      },
      {
        settle: async (tx: Tx, ended: readonly { record: number }[]) => {
          await tx.execute(
            sql`UPDATE website_sites SET name = name WHERE id IN ${ended.map(({ record }) => record + 1)}`,
          )
        },
      },
    )
    for (let n = 0; n < 8; n++)
      await stack.db.execute(sql`INSERT INTO website_sites (name, domain) VALUES ('a', ${`${n}.example`})`)
    const ids: number[] = []
    await transact(stack.db, async (tx) => {
      await tx.execute(sql`SELECT FROM website_sites WHERE id = 4 FOR UPDATE`)
      for (let n = 0; n < 8; n++) ids.push(await owe(n))
      stack.work()
      stack.dispatcher.start()
      for (const [n, id] of ids.entries()) if (n !== 3) await until(id, 'done')
      expect(await itemOf(ids[3]!)).toMatchObject({ state: 'owed', attempts: 0 })
    })
    expect(await until(ids[3]!, 'done')).toMatchObject({ attempts: 1 })
    expect(runs.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  })

  test('is not done again when the connection is cut in the middle of the write', async () => {
    let runs = 0
    let cuts = 0
    await given(
      async ({ n }) => {
        runs++
        return { kind: 'done', record: n }
      },
      {
        settle: async () => {
          if (cuts++ < 3) await cut()
        },
      },
    )
    stack.work()
    stack.dispatcher.start()
    const id = await owe(1)
    expect(await until(id, 'done')).toMatchObject({ attempts: 1 })
    expect([runs, cuts]).toEqual([1, 4])
  })

  test('fails alone when it never can be, and the others around it count once', async () => {
    const runs = new Map<number, number>()
    await given(async ({ n }) => {
      runs.set(n, (runs.get(n) ?? 0) + 1)
      return { kind: 'done', result: n === 3 ? 10n : n === 4 ? 'a\0\ud800' : n }
    })
    const ids: number[] = []
    for (let n = 0; n < 8; n++) ids.push(await owe(n))
    stack.work()
    stack.dispatcher.start()
    for (const [n, id] of ids.entries()) {
      const item = await until(id, n === 3 ? 'failed' : 'done')
      if (n === 3) expect(item.lastError).toContain('could not be written down')
    }
    expect([...runs.values()]).toEqual([1, 1, 1, 1, 1, 1, 1, 1])
  })
})

test('a transaction that cannot even begin gives its connection back', async () => {
  await given(async () => ({ kind: 'done' }))
  const small = createDatabase({ url: stack.url, max: 2 })
  const connect = small.pool.connect.bind(small.pool)
  for (let i = 0; i < 5; i++) {
    // The server ends the session between taking it from the pool and BEGIN.
    small.pool.connect = (async () => {
      const client = await connect()
      const { rows } = await client.query('SELECT pg_backend_pid() AS pid')
      const ended = new Promise((resolve) => client.once('end', resolve))
      await stack.db.execute(sql`SELECT pg_terminate_backend(${rows[0].pid})`)
      await ended
      return client
    }) as never
    await expect(transact(small.db, async () => 1)).rejects.toThrow()
  }
  small.pool.connect = connect
  expect(await transact(small.db, async () => 2)).toBe(2)
  expect(small.pool.totalCount).toBeLessThanOrEqual(2)
  await small.close()
})

describe('a leased run', () => {
  test('is told to stop before its lease could lapse unrenewed', async () => {
    const seen: { abortedAfterMs?: number; reason?: string } = {}
    await given(
      async (_, { signal }) => {
        const began = performance.now()
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        seen.abortedAfterMs = performance.now() - began
        seen.reason = String(signal.reason.message)
        return { kind: 'retry', error: 'stopped' }
      },
      { leaseMs: 2_000 },
    )
    stack.work()
    const id = await owe(1)
    await stack.dispatcher.tick()
    await until(id, 'running')
    // The lease can't be renewed while someone holds the row.
    await stack.db
      .transaction(async (tx) => {
        await tx.execute(sql`SELECT FROM website_worker.work WHERE id = ${id} FOR UPDATE`)
        await vi.waitFor(() => expect(seen.reason).toBe('the lease could not be renewed'), 5_000)
        tx.rollback()
      })
      .catch(() => {})
    expect(seen.abortedAfterMs).toBeLessThan(2_000)
  })

  test('that was overtaken writes nothing', async () => {
    const settled: number[] = []
    let enter = () => {}
    let leave = () => {}
    const entered = new Promise<void>((resolve) => (enter = resolve))
    const left = new Promise<void>((resolve) => (leave = resolve))
    await given(
      async ({ n }) => {
        enter()
        await left
        return { kind: 'done', record: n }
      },
      {
        leaseMs: 60_000,
        settle: async (_tx: unknown, runs: { record: number }[]) => void settled.push(...runs.map((run) => run.record)),
      },
    )
    const workers = stack.work()
    const id = await owe(1)
    await stack.dispatcher.tick()
    await entered
    await stack.db
      .update(work)
      .set({ state: 'owed', generation: 9, leaseToken: null, leaseUntil: null })
      .where(eq(work.id, id))
    expect(await takeLease(stack.db, { workId: id, generation: 9 }, crypto.randomUUID(), 60_000)).toBe(true)
    leave()
    await workers.close(5_000)
    expect(settled).toEqual([])
    expect((await itemOf(id)).state).toBe('running')
  })
})

test('closing ends also while Redis is away and a run does not listen', async () => {
  const redis = await startRedis()
  await given(() => new Promise(() => {}), { redisUrl: redis.url })
  const workers = stack.work()
  const id = await owe(1)
  await stack.dispatcher.tick()
  await vi.waitFor(async () => expect((await stack.backend.queue('take-note').getActiveCount()) > 0).toBe(true))
  await redis.kill()
  const began = performance.now()
  await workers.close(300)
  await stack.close()
  expect(performance.now() - began).toBeLessThan(10_000)
  expect(id).toBeGreaterThan(0)
  await redis.stop()
  stack = { close: async () => {} } as Stack
})

test('a run that can be resumed is told at once that its process shuts down, and goes back untouched', async () => {
  let begun!: () => void
  const running = new Promise<void>((resolve) => (begun = resolve))
  await given(
    async (_payload, { signal }) => {
      begun()
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      return { kind: 'retry', error: 'stopped on the way' }
    },
    { leaseMs: 30_000, resumable: true },
  )
  const workers = stack.work()
  stack.dispatcher.start()
  const id = await owe(1)
  await running
  // Longer than the test may take: only being told at once ends it.
  await workers.close(120_000)
  expect(await itemOf(id)).toMatchObject({ state: 'owed', attempts: 0, leaseToken: null })
})
