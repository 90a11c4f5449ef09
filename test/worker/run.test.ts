import { eq } from 'drizzle-orm'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import type { Db } from '../../src/db/client.ts'
import { work } from '../../src/db/schema/worker.ts'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import type { Outcome, RunContext } from '../../src/processors/contract.ts'
import { defineJob } from '../../src/queues/define-job.ts'
import { retry } from '../../src/work/transitions.ts'
import { createStack, type Stack } from '../fixtures/stack.ts'

type Payload = { n: number }
let stack: Stack
afterEach(() => stack.close())

const definition = (over: Partial<Parameters<typeof defineJob>[0]> = {}) =>
  defineJob({
    name: 'count-up',
    domain: 'maintenance',
    schema: z.object({ n: z.number().int() }),
    key: ['n'],
    retry: { waitsMs: [0, 10, 10] },
    worker: { concurrency: 10 },
    ...over,
  } as never)

const itemOf = async (id: number) => (await stack.db.select().from(work).where(eq(work.id, id)))[0]!

async function until(id: number, state: string) {
  return vi.waitFor(async () => {
    const item = await itemOf(id)
    expect(item.state).toBe(state)
    return item
  }, 10_000)
}

describe.each(['redis', 'postgres'] as const)('on %s', (backend) => {
  async function given(process: (payload: Payload, context: RunContext) => Promise<Outcome>, over = {}) {
    stack = await createStack({
      backend,
      jobs: [
        {
          definition: definition(over),
          processor: { process: (payload: Payload, _: unknown, context: RunContext) => process(payload, context) },
        },
      ],
    })
    stack.work()
    stack.dispatcher.start()
    const item = await enqueueItem(stack.db, 'count-up', { n: 1 }, { rung: false })
    return item.workId
  }

  test('a run that is done keeps its result', async () => {
    const id = await given(async ({ n }) => ({ kind: 'done', result: { n: n + 1 } }))
    expect(await until(id, 'done')).toMatchObject({ attempts: 1, result: { n: 2 }, lastError: null })
  })

  test('a transient failure is tried again by the schedule, then done', async () => {
    const attempts: number[] = []
    const id = await given(async (_, { attempt }) => {
      attempts.push(attempt)
      return attempt < 3 ? { kind: 'retry', error: `no ${attempt}` } : { kind: 'done' }
    })
    expect(await until(id, 'done')).toMatchObject({ attempts: 3, generation: 3 })
    expect(attempts).toEqual([1, 2, 3])
  })

  test('any number of runs may listen for the end of their process', async () => {
    const warnings: Error[] = []
    const note = (warning: Error) => void warnings.push(warning)
    process.on('warning', note)
    try {
      const listen = async (_: Payload, { signal }: RunContext): Promise<Outcome> => {
        signal.addEventListener('abort', () => {})
        return { kind: 'done' }
      }
      const items = [await given(listen)]
      for (let n = 2; n <= 12; n++) {
        items.push((await enqueueItem(stack.db, 'count-up', { n }, { rung: false })).workId)
      }
      for (const id of items) await until(id, 'done')
    } finally {
      process.off('warning', note)
    }
    expect(warnings).toEqual([])
  })

  test('the last failed attempt fails the item and its ring stands in the failed set', async () => {
    const id = await given(async () => {
      throw new Error('never works \0')
    })
    expect(await until(id, 'failed')).toMatchObject({
      attempts: 3,
      lastError: 'never works ',
      reason: 'out of attempts',
    })
    await vi.waitFor(async () => {
      const failed = await stack.backend.queue('count-up').getFailed()
      expect(failed.map((ring) => [ring.id, ring.failedReason])).toEqual([[`${id}-3`, 'never works ']])
    })
  })

  test('a permanent failure is not tried again', async () => {
    const id = await given(async () => ({ kind: 'failed', error: 'no such thing' }))
    expect(await until(id, 'failed')).toMatchObject({ attempts: 1, lastError: 'no such thing' })
  })

  test('a held item costs no attempt', async () => {
    const id = await given(async () => ({ kind: 'held', reason: 'waiting for a person' }))
    expect(await until(id, 'held')).toMatchObject({ attempts: 0, reason: 'waiting for a person' })
  })

  test('a leased run has one effect though its ring comes twice', async () => {
    let runs = 0
    const id = await given(
      async () => {
        runs++
        return { kind: 'done' }
      },
      { leaseMs: 5_000 },
    )
    await until(id, 'done')
    await stack.backend.queue('count-up').add('again', { workId: id, generation: 1 }, { jobId: 'again' })
    await vi.waitFor(async () => expect(await stack.backend.queue('count-up').getCompletedCount()).toBe(2))
    expect(runs).toBe(1)
  })

  test('asked for again during a leased run, it runs once more afterwards', async () => {
    let runs = 0
    const id = await given(
      async () => {
        runs++
        if (runs === 1) expect((await enqueueItem(stack.db, 'count-up', { n: 1 }, { rung: false })).created).toBe(false)
        return { kind: 'done', result: { runs } }
      },
      { leaseMs: 5_000 },
    )
    await vi.waitFor(
      async () => expect(await itemOf(id)).toMatchObject({ state: 'done', result: { runs: 2 }, generation: 2 }),
      10_000,
    )
  })

  test('asked for twice before its run begins, it runs once', async () => {
    let runs = 0
    const process = async () => {
      runs++
      return { kind: 'done' }
    }
    stack = await createStack({ backend, jobs: [{ definition: definition(), processor: { process } as never }] })
    const { workId } = await enqueueItem(stack.db, 'count-up', { n: 1 }, { rung: false })
    await stack.dispatcher.tick()
    const again = await enqueueItem(stack.db, 'count-up', { n: 1 }, { rung: false })
    expect([again.workId, again.created]).toEqual([workId, false])
    stack.work()
    await until(workId, 'done')
    await stack.dispatcher.tick()
    expect([runs, (await itemOf(workId)).state]).toEqual([1, 'done'])
  })

  test('a replay that fails first stays a replay', async () => {
    const triggers: string[] = []
    const id = await given(async (_, { trigger }) => {
      triggers.push(trigger)
      return triggers.length === 2 ? { kind: 'retry', error: 'no' } : { kind: 'done' }
    })
    await until(id, 'done')
    await retry(stack.db, [id], 'replay')
    await vi.waitFor(() => expect(triggers).toEqual(['request', 'replay', 'replay']), 10_000)
    await until(id, 'done')
  })

  test('a ring of an older generation, of no item, or of garbage ends without effect', async () => {
    let runs = 0
    const id = await given(async () => {
      runs++
      return { kind: 'done' }
    })
    await until(id, 'done')
    const queue = stack.backend.queue('count-up')
    await queue.add('old', { workId: id, generation: 0 }, { jobId: 'old' })
    await queue.add('none', { workId: 999_999, generation: 1 }, { jobId: 'none' })
    await queue.add('garbage', { workId: 'x' } as never, { jobId: 'garbage' })
    await vi.waitFor(async () => expect(await queue.getCompletedCount()).toBe(4))
    expect(runs).toBe(1)
  })

  test('what a run recorded is written with its end, and one that cannot be stored fails alone', async () => {
    const settled: number[] = []
    stack = await createStack({
      backend,
      jobs: [
        {
          definition: definition(),
          processor: {
            process: async ({ n }: Payload) => ({ kind: 'done', record: n }),
            settle: async (tx: Db, runs: { record: number }[]) => {
              if (runs.some((run) => run.record === 3)) await tx.execute(`SELECT 'x'::int`)
              settled.push(...runs.map((run) => run.record))
            },
          } as never,
        },
      ],
    })
    const items = []
    for (let n = 0; n < 6; n++) items.push((await enqueueItem(stack.db, 'count-up', { n }, { rung: false })).workId)
    stack.work()
    stack.dispatcher.start()
    for (const [n, id] of items.entries()) {
      const item = await until(id, n === 3 ? 'failed' : 'done')
      if (n === 3) expect(item.lastError).toContain('could not be recorded')
    }
    expect(settled.toSorted()).toEqual([0, 1, 2, 4, 5])
  })

  test('closing waits for the run and then nothing is under way', async () => {
    let release = () => {}
    let ended = false
    const began = new Promise<void>((resolve) => {
      release = resolve
    })
    const id = await given(async () => {
      release()
      await new Promise((resolve) => setTimeout(resolve, 200))
      ended = true
      return { kind: 'done' }
    })
    await began
    await stack.close({ keepDatabase: true })
    expect(ended).toBe(true)
    expect((await itemOf(id)).state).toBe('done')
    await stack.database.drop()
    stack = { close: async () => {} } as Stack
  })
})
