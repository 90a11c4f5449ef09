import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createGate, type Gate, type Leave } from '../../src/clients/gate.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Enters until a remote finds no place at once; the last one still waits. */
async function fill(gate: Gate, remote: string): Promise<{ leaves: Leave[]; next: Promise<Leave | null> }> {
  const leaves: Leave[] = []
  for (;;) {
    const next = gate.enter(remote)
    const leave = await Promise.race([next, Promise.resolve('waits' as const)])
    if (leave === 'waits') return { leaves, next }
    if (leave) leaves.push(leave)
  }
}
const now = async (entering: Promise<Leave | null>) => Promise.race([entering, Promise.resolve('waits' as const)])

describe('a share', () => {
  test('is small for a remote that has not answered, and half of the places for one alone that answers', async () => {
    const gate = createGate({ capacity: 100 })
    const { leaves, next } = await fill(gate, 'a')
    expect(leaves).toHaveLength(8)
    const inside = [...leaves]
    const entering = [next]
    for (let n = 0; n < 200; n++) {
      inside.shift()?.(true)
      inside.push((await entering.shift()!)!)
      const more = await fill(gate, 'a')
      inside.push(...more.leaves)
      entering.push(more.next)
    }
    expect(inside).toHaveLength(50)
  })

  test('of remotes that begin to hang one after the other leaves room for one that does not', async () => {
    const gate = createGate({ capacity: 100 })
    for (let n = 0; n < 12; n++) await fill(gate, `hangs ${n}`)
    expect((await fill(gate, 'well')).leaves.length).toBeGreaterThanOrEqual(2)
  })

  test('that was earned by many at a time is kept while nothing is sent, and lost by what is not answered', async () => {
    const gate = createGate({ capacity: 1_000 })
    const earn = async () => {
      const { leaves, next } = await fill(gate, 'a')
      for (const leave of leaves) leave(true)
      ;(await next)?.(true)
      return leaves.length
    }
    expect(await earn()).toBe(8)
    const second = await earn()
    expect(second).toBeGreaterThan(8)
    expect(await earn()).toBeGreaterThan(second)
    const { leaves, next } = await fill(gate, 'a')
    for (const leave of leaves) leave(false)
    ;(await next)?.(false)
    expect((await fill(gate, 'a')).leaves).toHaveLength(8)
  })

  test('is not earned by one answer after the other', async () => {
    const gate = createGate({ capacity: 100 })
    for (let n = 0; n < 200; n++) (await gate.enter('a'))?.(true)
    expect((await fill(gate, 'a')).leaves).toHaveLength(8)
  })

  test('is not remembered of more remotes than there is room for', async () => {
    const gate = createGate({ capacity: 20 })
    const earn = async (remote: string) => {
      const { leaves, next } = await fill(gate, remote)
      for (const leave of leaves) leave(true)
      ;(await next)?.(true)
      return leaves.length
    }
    await earn('first')
    expect(await earn('first')).toBeGreaterThan(8)
    for (let n = 0; n < 10_000; n++) await earn(`other ${n}`)
    expect(await earn('first')).toBe(8)
  })

  test('one place is enough for one at a time', async () => {
    const gate = createGate({ capacity: 1 })
    const leave = await gate.enter('a')
    const second = gate.enter('b')
    expect(await now(second)).toBe('waits')
    leave?.(true)
    expect(await second).toBeTypeOf('function')
  })
})

describe('what finds no place', () => {
  test('takes the next one that its remote leaves', async () => {
    const gate = createGate({ capacity: 4 })
    const { leaves, next } = await fill(gate, 'a')
    leaves[0]?.(true)
    expect(await next).toBeTypeOf('function')
  })

  test('takes one that another remote leaves, where its own can use it', async () => {
    const gate = createGate({ capacity: 6 })
    const others = await fill(gate, 'b')
    const { next } = await fill(gate, 'a')
    for (const leave of others.leaves) leave(true)
    expect(await next).toBeTypeOf('function')
  })

  test('waits a moment, and after that was in vain the next do not wait at all', async () => {
    const gate = createGate({ capacity: 4, patienceMs: 250 })
    const { leaves, next } = await fill(gate, 'a')
    await vi.advanceTimersByTimeAsync(249)
    expect(await now(next)).toBe('waits')
    await vi.advanceTimersByTimeAsync(1)
    expect(await next).toBeNull()
    expect(await now(gate.enter('a'))).toBeNull()
    expect(await now(gate.enter('b')), 'another remote has room').toBeTypeOf('function')
    leaves[0]?.(true)
    expect(await now(gate.enter('a')), 'its place is free again').toBeTypeOf('function')
  })

  test('waits on, if it is patient, as long as its remote answers others', async () => {
    const gate = createGate({ capacity: 4, patienceMs: 250 })
    const { leaves, next } = await fill(gate, 'a')
    const [patient, impatient] = [gate.enter('a', true), gate.enter('a')]
    await vi.advanceTimersByTimeAsync(200)
    leaves[0]?.(true)
    expect(await now(next), 'whoever came first').toBeTypeOf('function')
    await vi.advanceTimersByTimeAsync(50)
    expect([await now(patient), await now(impatient)]).toEqual(['waits', null])
    await vi.advanceTimersByTimeAsync(250)
    expect(await now(patient), 'nothing more was answered').toBeNull()
  })

  test('may wait again once something of its remote has ended', async () => {
    const gate = createGate({ capacity: 4, patienceMs: 250 })
    const { leaves } = await fill(gate, 'a')
    await vi.advanceTimersByTimeAsync(250)
    leaves[0]?.(true)
    await gate.enter('a')
    const next = gate.enter('a')
    expect(await now(next)).toBe('waits')
    leaves[1]?.(true)
    expect(await next).toBeTypeOf('function')
  })
})

test('a place that is left twice is given back once', async () => {
  const gate = createGate({ capacity: 2 })
  const leave = await gate.enter('a')
  leave?.(true)
  leave?.(true)
  const places = await Promise.all(['a', 'b'].map((remote) => now(gate.enter(remote))))
  expect(places.map((place) => typeof place)).toEqual(['function', 'function'])
  expect(await now(gate.enter('c'))).toBe('waits')
})

test('whatever comes and goes, no more are in than there are places, no timer is left and nothing is forgotten', async () => {
  const remote = fc.integer({ min: 0, max: 4 }).map(String)
  const step = fc.oneof(
    remote.map((name) => ({ enter: name })),
    fc.nat().map((n) => ({ leave: n })),
    fc.integer({ min: 1, max: 300 }).map((ms) => ({ pass: ms })),
  )
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 6 }), fc.array(step, { maxLength: 60 }), async (capacity, steps) => {
      const gate = createGate({ capacity, patienceMs: 250 })
      const inside: Leave[] = []
      let open = 0
      for (const each of steps) {
        if ('enter' in each) {
          open++
          void gate.enter(each.enter).then((leave) => {
            open--
            if (leave) inside.push(leave)
          })
        } else if ('leave' in each) inside.splice(each.leave % Math.max(1, inside.length), 1)[0]?.(each.leave % 2 === 0)
        else await vi.advanceTimersByTimeAsync(each.pass)
        await vi.advanceTimersByTimeAsync(0)
        expect(inside.length).toBeLessThanOrEqual(capacity)
      }
      await vi.advanceTimersByTimeAsync(250)
      expect(open, 'everyone was answered').toBe(0)
      for (const leave of inside.splice(0)) leave(true)
      expect(vi.getTimerCount()).toBe(0)
      // As good as new.
      const first = await gate.enter('0')
      expect(first).toBeTypeOf('function')
      first?.(true)
    }),
    { numRuns: 300 },
  )
})
