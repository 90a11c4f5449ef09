import pRetry from 'p-retry'
import type { Logger } from 'pino'
import { transact, type Db } from '../db/client.ts'
import { mayPass } from '../db/unreachable.ts'
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

/**
 * Writes the ends of runs, many in one transaction: the items' transitions and what the processor recorded. Tries for as
 * long as the process lives, because the effect has happened and must not happen again for want of a row.
 */
export function createSettler(deps: { db: Db; log: Logger; signal: AbortSignal }, processor: AnyProcessor) {
  async function write(endings: readonly Ending[]) {
    await transact(deps.db, async (tx) => {
      const counted = await finish(
        tx,
        endings.map((ending) => ending.finish),
      )
      // A run that lost its lease was overtaken by another, whose word counts.
      const settled = endings.flatMap(({ finish: { workId, leaseToken }, settled: run }) =>
        run && (leaseToken === null || counted.has(workId)) ? [run] : [],
      )
      if (processor.settle && settled.length > 0) await processor.settle(tx, settled)
    })
  }

  function insist(endings: readonly Ending[]) {
    return pRetry(() => write(endings), {
      retries: Number.POSITIVE_INFINITY,
      minTimeout: 50,
      maxTimeout: 2_000,
      signal: deps.signal,
      shouldRetry: ({ error }) => mayPass(error),
      onFailedAttempt: ({ error }) =>
        deps.log.warn(
          { runs: endings.length, err: messageOf(error.cause ?? error) },
          'could not write what runs came to; trying again',
        ),
    })
  }

  async function insistOnOne(ending: Ending) {
    try {
      await insist([ending])
    } catch (error) {
      if (deps.signal.aborted || mayPass(error)) throw error
      const words = `could not be recorded: ${messageOf((error as Error).cause ?? error)}`
      deps.log.error({ work: ending.finish.workId, err: words }, 'a run ended with something that cannot be stored')
      const failed = { outcome: 'failed', waitMs: null, result: null, error: words, reason: 'given up' } as const
      await insist([{ finish: { ...ending.finish, ...failed }, settled: undefined }])
    }
  }

  return createBatcher<Ending, void>({
    async run(endings) {
      try {
        await insist(endings)
      } catch (error) {
        if (deps.signal.aborted || mayPass(error)) throw error
        // One ending can't be stored; the others must not suffer for it.
        for (const ending of endings) await insistOnOne(ending)
      }
      return endings.map(() => undefined)
    },
  })
}
