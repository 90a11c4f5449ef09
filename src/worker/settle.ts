import { setTimeout as sleep } from 'node:timers/promises'
import pRetry from 'p-retry'
import type { Logger } from 'pino'
import { transact, type Db } from '../db/client.ts'
import { isUnreachable, mayPass } from '../db/unreachable.ts'
import { messageOf } from '../errors.ts'
import type { SettledRun } from '../processors/contract.ts'
import { finish, type Finish } from '../work/transitions.ts'
import { createBatcher } from './batcher.ts'
import type { AnyProcessor } from './processor.ts'

/** A run that ended: its item's next state, and what the processor recorded of it. */
export interface Ending {
  finish: Finish
  /** Undefined when nothing was recorded, e.g. for a run that was held before it began. */
  settled: SettledRun<unknown, unknown> | undefined
}

/** How many ends that could not be written with others are written at a time. */
const mostApart = 4

/**
 * Writes the ends of runs, many in one transaction: the items' transitions and what the processor recorded. Tries for as
 * long as the process lives, because the effect has happened and must not happen again for want of a row. Rows that
 * someone else has locked keep only their own runs waiting: give it a database with a short lock timeout.
 */
export function createSettler(deps: { db: Db; log: Logger; signal: AbortSignal }, processor: AnyProcessor) {
  const { db, log, signal } = deps

  async function write(endings: readonly Ending[]) {
    await transact(db, async (tx) => {
      const counted = await finish(
        tx,
        endings.map((ending) => ending.finish),
      )
      // A run that lost its lease was overtaken by another, whose word counts.
      const settled = endings.flatMap(({ finish: { workId, leaseToken }, settled: run }) =>
        run && (leaseToken === null || counted.has(workId)) ? [run] : [],
      )
      if (processor.settle && settled.length > 0) await processor.settle(tx, settled, log)
    })
  }

  /** Waits out a database that is away; what stands in the way otherwise is for the caller. */
  async function insist(endings: readonly Ending[]): Promise<void> {
    try {
      return await write(endings)
    } catch (error) {
      if (!isUnreachable(error)) throw error
      log.warn({ runs: endings.length, err: messageOf(error) }, 'could not write what runs came to; trying again')
    }
    await pRetry(() => write(endings), {
      retries: Number.POSITIVE_INFINITY,
      minTimeout: 50,
      maxTimeout: 2_000,
      signal,
      shouldRetry: ({ error }) => isUnreachable(error),
    })
  }

  const insisting = async (endings: Ending[]) => {
    await insist(endings)
    return endings.map(() => undefined)
  }
  const together = createBatcher<Ending, void>({ run: insisting })
  const apart = createBatcher<Ending, void>({ run: insisting, maxSize: 1, concurrency: mostApart })

  /** Writes one end by itself, however long its rows are locked; one that can't be stored fails its item. */
  async function settleApart(ending: Ending): Promise<void> {
    for (let waitMs = 50; ; waitMs = Math.min(2 * waitMs, 2_000)) {
      try {
        return await apart(ending)
      } catch (error) {
        if (signal.aborted) throw error
        const words = messageOf((error as Error).cause ?? error)
        if (mayPass(error)) log.warn({ work: ending.finish.workId, err: words }, 'what a run came to waits for a lock')
        else if (ending.settled === undefined && ending.finish.reason === 'given up') throw error
        else {
          log.error({ work: ending.finish.workId, err: words }, 'a run ended with something that cannot be stored')
          const failed = { outcome: 'failed', waitMs: null, lane: null, result: null, reason: 'given up' } as const
          const finish = { ...ending.finish, ...failed, error: `could not be recorded: ${words}` }
          return settleApart({ finish, settled: undefined })
        }
      }
      await sleep(waitMs, undefined, { signal })
    }
  }

  return async function settle(ending: Ending): Promise<void> {
    try {
      return await together(ending)
    } catch (error) {
      if (signal.aborted) throw error
    }
    return settleApart(ending)
  }
}
