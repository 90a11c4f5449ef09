import { sql } from 'drizzle-orm'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { openLanes } from '../../src/db/queries/lanes.ts'
import { createMovedSweep } from '../../src/work/moved.ts'
import { startRedis } from '../fixtures/redis.ts'
import { createLaneStack, type LaneStack } from './lane-fixtures.ts'

let stack: LaneStack
afterEach(() => stack.close())

const allDone = (n: number, state = 'done') =>
  vi.waitFor(async () => expect(await stack.inState(state)).toBe(n), { timeout: 20_000, interval: 20 })

describe.each(['redis', 'postgres'] as const)('with the queue in %s', (backend) => {
  test('one at a time means one at a time, and each end rings the next without waiting for a tick', async () => {
    let inside = 0
    let most = 0
    stack = await createLaneStack(
      async () => {
        most = Math.max(most, ++inside)
        await new Promise((resolve) => setImmediate(resolve))
        inside--
        return { kind: 'done' }
      },
      { backend },
    )
    await stack.park('a', 15)
    await stack.limit('a', 1, null)
    stack.work()
    await stack.dispatcher.tick()
    await allDone(15)
    expect(most).toBe(1)
  })

  test('an item that finds no place waits for the next tick: it is not turned away over and over', async () => {
    let runs = 0
    stack = await createLaneStack(
      async (_, { lane }) => {
        runs++
        return { kind: 'parked', lane: lane! }
      },
      { backend },
    )
    await stack.park('a', 20)
    const workers = stack.work()
    await stack.dispatcher.tick()
    await vi.waitFor(async () => expect([runs, await stack.rung('a')]).toEqual([8, 0]), 10_000)
    await workers.close(5_000)
    expect([runs, await stack.parked('a')]).toEqual([8, 20])
    const { rows } = await stack.db.execute(sql`SELECT DISTINCT attempts FROM website_worker.work`)
    expect(rows).toEqual([{ attempts: 0 }])
  })
})

test('a probe that tells nothing of its remote is followed by the next: a lane whose breaker was open goes on', async () => {
  const kinds = ['done', 'held', 'failed', 'throws'] as const
  stack = await createLaneStack(async ({ n }) => {
    const kind = kinds[n % kinds.length]!
    if (kind === 'throws') throw new Error('no')
    return kind === 'held' ? { kind, reason: 'paused' } : kind === 'failed' ? { kind, error: 'no' } : { kind }
  })
  await stack.park('a', 16)
  await stack.change('a', sql`opens = 3, open_until = now() - interval '1 ms'`)
  stack.work()
  await stack.dispatcher.tick()
  await vi.waitFor(
    async () => {
      const { rows } = await stack.db.execute(
        sql`SELECT min(attempts + (state = 'held')::int) AS n FROM website_worker.work`,
      )
      expect(rows[0]?.n).toBe(1)
    },
    { timeout: 20_000 },
  )
  expect([await stack.inState('done'), await stack.inState('held'), await stack.inState('failed')]).toEqual([4, 4, 4])
})

test('items that go elsewhere by now leave their lane one after the other without waiting for ticks', async () => {
  const run = vi.fn()
  stack = await createLaneStack(async ({ n }, { lane }) => {
    run(n)
    return lane === 'b' ? { kind: 'done' } : { kind: 'parked', lane: 'b' }
  })
  await openLanes(stack.db, ['b'])
  await stack.park('a', 20)
  await stack.change('a', sql`opens = 3, open_until = now() - interval '1 ms'`)
  stack.work()
  await stack.dispatcher.tick()
  await vi.waitFor(async () => expect([await stack.parked('a'), await stack.rung('a')]).toEqual([0, 0]), 20_000)
  await stack.dispatcher.tick()
  await allDone(20)
  expect(run).toHaveBeenCalledTimes(40)
})

describe('what is parked in a lane that leads elsewhere by now', () => {
  const sweepOf = (options = {}) =>
    createMovedSweep(
      {
        db: stack.db,
        jobs: [
          { name: 'call-out', schema: { safeParse: (value: { to?: string }) => ({ success: value.to !== 'broken' }) } },
        ] as never,
        lanesOf: new Map([
          [
            'call-out',
            async (_, items) =>
              new Map(
                items.flatMap(({ workId, payload }) => {
                  const { to } = payload as { to: string }
                  return to === 'gone' ? [] : [[workId, { lane: to, isManaged: true }] as const]
                }),
              ),
          ],
        ]),
      },
      options,
    )
  const goTo = (to: string, of: readonly number[]) =>
    stack.db.execute(
      sql`UPDATE website_worker.work SET payload = payload || jsonb_build_object('to', ${to}::text)
          WHERE id = ANY (${sql.param(of)}::bigint[])`,
    )

  test('is taken out of it, though the lane is closed to all; what still goes there stays', async () => {
    stack = await createLaneStack()
    const ids = await stack.park('a', 40)
    await goTo('b', ids.slice(0, 10))
    await goTo('gone', ids.slice(10, 15))
    await goTo('broken', ids.slice(15, 20))
    expect(await sweepOf()()).toBe(20)
    const { rows } = await stack.db.execute(
      sql`SELECT array_agg(id ORDER BY id)::int[] AS ids FROM website_worker.work WHERE lane = 'a'`,
    )
    expect(rows[0]?.ids).toEqual(ids.slice(20))
    expect(await sweepOf()()).toBe(0)
  })

  test('is found a page at a time, from call to call', async () => {
    stack = await createLaneStack()
    const ids = [...(await stack.park('a', 25)), ...(await stack.park('b', 25))]
    await goTo('c', ids)
    const sweep = sweepOf({ pageSize: 10, budgetMs: 0 })
    const found: number[] = []
    for (let n = 0; n < 7; n++) found.push(await sweep())
    expect(found).toEqual([10, 10, 10, 10, 10, 0, 0])
  })

  test('goes where it leads now with the next ticks', async () => {
    stack = await createLaneStack()
    const ids = await stack.park('a', 10)
    await stack.change('a', sql`opens = 9, open_until = now() + interval '1 day'`)
    await goTo('b', ids)
    stack.work()
    await stack.dispatcher.tick()
    await allDone(10)
  })
})

test('a tick rings no more than a hundred for one remote, however its items are mixed with those of others', async () => {
  stack = await createLaneStack()
  await stack.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, next_at)
        SELECT 'call-out', i::text, jsonb_build_object('n', i, 'to', 'remote ' || i % 15), now() - interval '1 minute'
        FROM generate_series(1, 3000) AS s(i)`,
  )
  await stack.dispatcher.tick()
  const { rows } = await stack.db.execute(
    sql`SELECT count(*)::int AS rung FROM website_worker.work WHERE rung_at IS NOT NULL AND lane IS NULL
        GROUP BY payload ->> 'to'`,
  )
  expect(rows).toHaveLength(15)
  expect(Math.max(...rows.map((row) => row.rung as number))).toBeLessThanOrEqual(100)
})

test('a wipe of the queue in the middle loses nothing, and lanes go on', async () => {
  const redis = await startRedis()
  const seen = new Map<number, number>()
  stack = await createLaneStack(
    async ({ n }) => {
      seen.set(n, (seen.get(n) ?? 0) + 1)
      if (seen.size === 20 && seen.get(n) === 1) await redis.flush()
      return { kind: 'done' }
    },
    { redisUrl: redis.url },
  )
  try {
    await stack.park('a', 60)
    await stack.park('b', 60)
    stack.work()
    stack.dispatcher.start()
    await allDone(120)
    expect(seen.size).toBe(120)
  } finally {
    await stack.dispatcher.stop()
    await redis.stop()
  }
})
