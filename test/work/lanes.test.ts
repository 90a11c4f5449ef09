import { eq, sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { work } from '../../src/db/schema/worker.ts'
import type { Bell } from '../../src/work/bell.ts'
import { ringLanes } from '../../src/work/lanes.ts'
import { createLostRingSweep } from '../../src/work/lost-rings.ts'
import { cancel, holdSite, promote, retry } from '../../src/work/transitions.ts'
import { createLaneStack, type LaneStack } from './lane-fixtures.ts'

let stack: LaneStack
beforeEach(async () => {
  stack = await createLaneStack()
})
afterEach(() => stack.close())

const itemOf = async (id: number) => (await stack.db.select().from(work).where(eq(work.id, id)))[0]!
const end = (ids: readonly number[]) =>
  stack.db.execute(sql`UPDATE website_worker.work SET state = 'done' WHERE id = ANY (${sql.param(ids)}::bigint[])`)

describe('the window', () => {
  test('is rung, what has waited longest first, and the next as room is made', async () => {
    const ids = await stack.park('a', 20)
    expect([await stack.ringLanes(), await stack.ringLanes()]).toEqual([8, 0])
    for (const [n, id] of ids.entries()) expect((await itemOf(id)).rungAt !== null, `item ${n}`).toBe(n < 8)
    await end(ids.slice(2, 5))
    expect([await stack.ringLanes(), await stack.rung('a')]).toEqual([3, 8])
    await stack.change('a', sql`"window" = 2`)
    expect([await stack.ringLanes(), await stack.rung('a')]).toEqual([0, 8])
  })

  test('of one lane has nothing to do with that of another', async () => {
    await stack.park('a', 30)
    await stack.park('b', 5)
    await stack.park('c', 30)
    await stack.change('c', sql`"window" = 20`)
    await stack.ringLanes()
    expect([await stack.rung('a'), await stack.rung('b'), await stack.rung('c')]).toEqual([8, 5, 20])
  })

  test('is for what is due: the rest stays in its row', async () => {
    await stack.park('a', 3, 30)
    await stack.park('a', 2)
    expect(await stack.ringLanes()).toBe(2)
    expect(await stack.delays()).toEqual([])
  })

  test('is never exceeded, however many ring at once and whatever comes in between', async () => {
    await stack.park('a', 10)
    for (let round = 0; round < 15; round++) {
      const rungIds = await stack.db.execute(
        sql`SELECT id FROM website_worker.work WHERE rung_at IS NOT NULL AND state = 'owed' LIMIT 4`,
      )
      await Promise.all([
        stack.ringLanes(),
        // What waits longer than all others goes before what another ringer has seen.
        stack.park('a', 6, -1_000 - round),
        stack.ringLanes(),
        end(rungIds.rows.map((row) => Number(row.id))),
        stack.ringLanes(),
        stack.park('a', 6, -2_000 - round),
        stack.ringLanes(),
      ])
      expect(await stack.rung('a')).toBeLessThanOrEqual(8)
    }
  })
})

describe('a limit', () => {
  test('of requests at a time holds below the window, and the window below the limit', async () => {
    await stack.park('a', 20)
    await stack.limit('a', 3, null)
    expect(await stack.ringLanes()).toBe(3)
    await stack.limit('a', 100, null)
    expect([await stack.ringLanes(), await stack.rung('a')]).toEqual([5, 8])
  })

  test('for all holds where a lane has none of its own; one of nothing lifts it', async () => {
    for (const lane of ['a', 'b', 'c']) await stack.park(lane, 20)
    await stack.limit('*', 2, null)
    await stack.limit('b', 5, null)
    await stack.limit('c', null, null)
    await stack.ringLanes()
    expect([await stack.rung('a'), await stack.rung('b'), await stack.rung('c')]).toEqual([2, 5, 8])
  })

  test('of the rate spreads rings over the time of Postgres, no more than two seconds ahead', async () => {
    await stack.park('a', 20)
    await stack.limit('a', null, 2)
    expect(await stack.ringLanes()).toBe(4)
    expect(await stack.delays()).toEqual([500, 1_000, 1_500])
    for (let n = 0; n < 5; n++) expect(await stack.ringLanes()).toBeLessThanOrEqual(1)
    const { rows } = await stack.db.execute(
      sql`SELECT paced_until - now() < interval '2.5 s' AS near, paced_until > now() + interval '1 s' AS ahead
          FROM website_worker.lanes`,
    )
    expect(rows).toEqual([{ near: true, ahead: true }])
  })

  test('of the rate and of requests at a time hold both', async () => {
    await stack.park('a', 20)
    await stack.limit('a', 2, 100)
    expect(await stack.ringLanes()).toBe(2)
    expect(await stack.delays()).toEqual([10])
  })

  test('below one a second rings one at a time, when its turn is near', async () => {
    await stack.park('a', 20)
    await stack.limit('a', null, 0.1)
    expect([await stack.ringLanes(), await stack.ringLanes()]).toEqual([1, 0])
    await stack.change('a', sql`paced_until = paced_until - interval '7 s'`)
    expect(await stack.ringLanes()).toBe(0)
    await stack.change('a', sql`paced_until = paced_until - interval '1.5 s'`)
    expect([await stack.ringLanes(), await stack.ringLanes()]).toEqual([1, 0])
    const [delay] = await stack.delays()
    expect(delay).toBeGreaterThan(0)
    expect(delay).toBeLessThanOrEqual(1_500)
  })

  test('that was low is forgotten once it is raised', async () => {
    await stack.park('a', 20)
    await stack.limit('a', null, 0.001)
    expect(await stack.ringLanes()).toBe(1)
    expect((await stack.lane('a'))?.paced_until).not.toBeNull()
    await stack.limit('a', null, 100)
    // It was paced a quarter of an hour ahead: now no more than two seconds.
    expect(await stack.ringLanes()).toBe(7)
  })

  test('that is removed paces nothing any more', async () => {
    await stack.park('a', 20)
    await stack.limit('a', 1, 0.001)
    expect(await stack.ringLanes()).toBe(1)
    await stack.db.execute(sql`DELETE FROM website_worker.lane_limits`)
    expect([await stack.ringLanes(), await stack.delays()]).toEqual([7, []])
  })
})

describe('an open breaker', () => {
  test('rings nothing while it is open, and then one', async () => {
    const ids = await stack.park('a', 20)
    await stack.change('a', sql`opens = 3, open_until = now() + interval '1 hour'`)
    expect(await stack.ringLanes()).toBe(0)
    await stack.change('a', sql`open_until = now() - interval '1 ms'`)
    expect([await stack.ringLanes(), await stack.ringLanes()]).toEqual([1, 0])
    await end(ids.slice(0, 1))
    expect(await stack.ringLanes(), 'a probe that told nothing is followed by another').toBe(1)
    await stack.change('a', sql`opens = 0, open_until = NULL`)
    expect([await stack.ringLanes(), await stack.rung('a')]).toEqual([7, 8])
  })
})

describe('a lane', () => {
  const old = sql`changed_at = now() - interval '1 minute'`

  test('in which nothing is due is freed, and its items are rung like any others', async () => {
    const [id] = await stack.park('a', 3, 60)
    await stack.change('a', old)
    await stack.ringLanes()
    expect([await stack.lane('a'), await stack.parked('a')]).toEqual([undefined, 0])
    await stack.dispatcher.tick()
    expect((await itemOf(id!)).rungAt).not.toBeNull()
    expect(await stack.delays()).toHaveLength(3)
  })

  test('that keeps up is freed though it is in use, and what is due there is rung like any other', async () => {
    // The first tick takes whatever was rung for lost.
    await stack.dispatcher.tick()
    await stack.park('a', 100)
    await stack.change('a', sql`"window" = 32`)
    expect(await stack.ringLanes()).toBe(32)
    expect([await stack.lane('a'), await stack.parked('a')]).toEqual([undefined, 0])
    await stack.dispatcher.tick()
    expect(await stack.rung('a'), 'rung by the lane').toBe(32)
    expect(await stack.inState('owed')).toBe(100)
  })

  test.each<[string, () => Promise<unknown>]>([
    [
      'it is wide, but more waits than could be rung at once',
      async () => (await stack.park('a', 140), await stack.change('a', sql`"window" = 32`)),
    ],
    [
      'it is wide, but its breaker opened',
      async () => (await stack.park('a', 1), await stack.change('a', sql`"window" = 32, opens = 1`)),
    ],
    ['it was in use a moment ago', async () => {}],
    [
      'something in it is due',
      async () =>
        void (await stack.change('a', sql`${old}, opens = 1, open_until = now() + interval '1 h'`),
        await stack.park('a', 1)),
    ],
    [
      'something of it is in the queue',
      async () => {
        await stack.park('a', 1)
        await stack.ringLanes()
        await stack.change('a', old)
      },
    ],
    ['a person set a limit', async () => void (await stack.change('a', old), await stack.limit('a', null, 5))],
    ['a person set a limit for all', async () => void (await stack.change('a', old), await stack.limit('*', 5, null))],
    ['its breaker was open within the hour', () => stack.change('a', sql`${old}, opens = 1`)],
    [
      'more is due soon than could be rung at once',
      async () => void (await stack.park('a', 110, 60), await stack.change('a', old)),
    ],
  ])('stays while %s', async (_, given) => {
    await stack.park('a', 1, 3_600)
    await given()
    await stack.ringLanes()
    expect(await stack.lane('a')).toBeDefined()
    expect(await stack.parked('a')).toBeGreaterThan(0)
  })

  test('with more items than are freed at once is freed in turns, and nothing of it is parked anew', async () => {
    await stack.park('a', 15_000, 86_400)
    await stack.change('a', old)
    await stack.ringLanes()
    expect(await stack.parked('a')).toBe(5_000)
    await stack.ringLanes()
    expect([await stack.parked('a'), await stack.lane('a')]).toEqual([0, undefined])
  })

  test('whose row vanished while something waited in it has one again', async () => {
    await stack.park('a', 3)
    await stack.db.execute(sql`DELETE FROM website_worker.lanes`)
    expect(await stack.ringLanes()).toBe(3)
    expect(await stack.lane('a')).toMatchObject({ window: 8, opens: 0 })
  })

  test('whose row someone has locked keeps back itself alone', async () => {
    await stack.park('a', 3)
    await stack.park('b', 3)
    await stack.db.transaction(async (tx) => {
      await tx.execute(sql`SELECT FROM website_worker.lanes WHERE lane = 'a' FOR UPDATE`)
      expect([await stack.ringLanes(), await stack.rung('b')]).toEqual([3, 3])
    })
    expect(await stack.ringLanes()).toBe(3)
  })
})

describe('an item that waits in a lane', () => {
  test('can be cancelled, and is not rung', async () => {
    const [id] = await stack.park('a', 2)
    await cancel(stack.db, [id!], 'no longer wanted')
    expect([await stack.ringLanes(), (await itemOf(id!)).state]).toEqual([1, 'cancelled'])
  })

  test('goes to the front of no lane when it is promoted: it is looked at anew, and waits if it must', async () => {
    const [id] = await stack.park('a', 2, 3_600)
    expect(await promote(stack.db, [id!])).toHaveLength(1)
    expect(await itemOf(id!)).toMatchObject({ lane: null, generation: 2, rungAt: null })
    await stack.dispatcher.tick()
    expect(await itemOf(id!)).toMatchObject({ lane: 'a' })
    expect([await stack.rung('a'), await stack.parked('a')]).toEqual([1, 1])
  })

  test('can be cancelled and retried', async () => {
    const [id] = await stack.park('a', 1)
    await cancel(stack.db, [id!], 'no')
    expect(await retry(stack.db, [id!], 'retry')).toHaveLength(1)
    expect(await itemOf(id!)).toMatchObject({ state: 'owed', lane: null, trigger: 'retry' })
  })

  test('is held with its site', async () => {
    await stack.park('a', 3)
    await stack.db.execute(sql`UPDATE website_worker.work SET site_id = 7`)
    expect(await holdSite(stack.db, ['call-out'], 7, 'paused')).toBe(3)
    expect(await stack.ringLanes()).toBe(0)
  })
})

describe('a ring of a lane', () => {
  test('that the queue refuses is taken back, and the next tick rings it', async () => {
    await stack.park('a', 3)
    const bell = { ...stack.bell, ringNow: () => Promise.reject(new Error('no')) } as Bell
    await ringLanes({ ...stack.deps, bell })
    expect(await stack.rung('a')).toBe(0)
    expect(await stack.ringLanes()).toBe(3)
  })

  test('is not tried while the queue is away', async () => {
    await stack.park('a', 3)
    await ringLanes({ ...stack.deps, bell: { ...stack.bell, ready: () => false } })
    expect(await stack.rung('a')).toBe(0)
  })

  test('whose process died between the mark and the ring is found, and makes room meanwhile in its own lane', async () => {
    const ids = await stack.park('a', 10)
    await stack.limit('a', 2, null)
    await stack.db.execute(
      sql`UPDATE website_worker.work SET rung_at = now() - interval '1 minute' WHERE id = ANY (${sql.param(ids.slice(0, 2))}::bigint[])`,
    )
    expect(await stack.ringLanes(), 'they fill the lane').toBe(0)
    expect(await createLostRingSweep(stack)()).toBe(2)
    expect(await itemOf(ids[0]!)).toMatchObject({ generation: 2, lane: 'a', rungAt: null })
    expect(await stack.ringLanes()).toBe(2)
    expect((await itemOf(ids[0]!)).rungAt).not.toBeNull()
  })
})
