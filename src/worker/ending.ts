import type { Outcome } from '../processors/contract.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import { nextWaitMs } from '../queues/retry-schedule.ts'
import type { Finish } from '../work/transitions.ts'
import type { LoadedItem } from './load.ts'
import type { Ending } from './settle.ts'

// Postgres text can't hold NUL.
const storable = (text: string) => text.replaceAll('\0', '').slice(0, 2_000)

/** A result as JSON that jsonb takes: neither NUL nor halves of surrogate pairs. */
function resultText(result: unknown): string | null {
  if (result === undefined) return null
  const json = JSON.stringify(result)
  return json?.replaceAll(/\\u(0000|d[89a-f][0-9a-f]{2})/gi, '\\ufffd') ?? null
}

/** How long until the next attempt, ms; null when the one that ended was the last. */
function waitOf(
  job: JobDefinition,
  outcome: Outcome<unknown> & { kind: 'retry' },
  attemptsBefore: number,
): number | null {
  const waitMs = nextWaitMs(job.retry, attemptsBefore + 1, Math.random)
  if (waitMs === null || outcome.at === undefined) return waitMs
  return Math.max(0, outcome.at.getTime() - Date.now())
}

/** What the row is told of a run's outcome: a retry gets its wait, or was the last one. */
function finishOf(job: JobDefinition, item: LoadedItem, leaseToken: string | null, outcome: Outcome<unknown>): Finish {
  const base = {
    workId: item.workId,
    attemptsBefore: item.attempts,
    leaseToken,
    waitMs: null,
    lane: null,
    error: null,
    reason: null,
    result: null,
  }
  switch (outcome.kind) {
    case 'done':
      return { ...base, outcome: 'done', result: resultText(outcome.result) }
    case 'parked':
      return { ...base, outcome: 'parked', lane: outcome.lane }
    case 'postponed':
      return { ...base, outcome: 'postponed', waitMs: outcome.inMs }
    case 'held':
      return {
        ...base,
        outcome: 'held',
        reason: storable(outcome.reason),
        error: outcome.error === undefined ? null : storable(outcome.error),
      }
    case 'failed':
      return { ...base, outcome: 'failed', error: storable(outcome.error) }
    case 'retry': {
      const waitMs = waitOf(job, outcome, item.attempts)
      const error = storable(outcome.error)
      if (waitMs === null) return { ...base, outcome: 'failed', error, reason: 'out of attempts' }
      return { ...base, outcome: 'retry', error, waitMs, lane: outcome.lane ?? null }
    }
  }
}

/** Turns an outcome into what is written of the run. @throws when the result isn't JSON */
export function endingOf(
  job: JobDefinition,
  item: LoadedItem,
  payload: unknown,
  leaseToken: string | null,
  outcome: Outcome<unknown>,
): Ending {
  const finish = finishOf(job, item, leaseToken, outcome)
  const { record } = outcome
  if (record === undefined) return { finish, settled: undefined }
  const { workId, siteId, trigger } = item
  const nextAt = finish.waitMs === null ? null : new Date(Date.now() + finish.waitMs)
  return {
    finish,
    settled: { workId, siteId, trigger, payload, attempt: item.attempts + 1, outcome: finish.outcome, nextAt, record },
  }
}
