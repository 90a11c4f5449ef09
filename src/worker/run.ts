import { randomUUID } from 'node:crypto'
import { UnrecoverableError, type Job } from 'bullmq'
import pRetry from 'p-retry'
import type { Logger } from 'pino'
import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { messageOf } from '../errors.ts'
import type { Outcome } from '../processors/contract.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import { nextWaitMs } from '../queues/retry-schedule.ts'
import type { RingData } from '../work/backend.ts'
import { maxCrashes } from '../work/dispatcher.ts'
import { countCrash, rearm, renewLease, returnLease, takeLease, type Finish } from '../work/transitions.ts'
import { createLoader, type LoadedItem } from './load.ts'
import type { Metrics } from './metrics.ts'
import type { AnyProcessor } from './processor.ts'
import { createSettler } from './settle.ts'

export interface RunnerDeps {
  db: Db
  log: Logger
  metrics: Metrics
  /** What the processor is given. */
  processorDeps: unknown
  /** Aborted when runs must end. */
  signal: AbortSignal
  /** Aborted when even their last writes must. */
  writeSignal: AbortSignal
}

const skipped = (why: string) => ({ outcome: 'skipped', why })

// Postgres text can't hold NUL.
const storable = (text: string) => text.replaceAll('\0', '').slice(0, 2_000)

function isRing(data: unknown): data is RingData {
  const ring = data as Partial<RingData> | null
  return Number.isSafeInteger(ring?.workId) && Number.isSafeInteger(ring?.generation)
}

/** What becomes of an outcome: a retry gets its instant, or is the last one. */
export function decide(
  job: JobDefinition,
  outcome: Outcome<unknown>,
  attemptsBefore: number,
  now: number,
  random: () => number,
) {
  if (outcome.kind !== 'retry') return { outcome: outcome.kind, nextAt: null }
  const waitMs = nextWaitMs(job.retry, attemptsBefore + 1, random)
  if (waitMs === null) return { outcome: 'failed' as const, nextAt: null }
  return { outcome: 'retry' as const, nextAt: outcome.at ?? new Date(now + waitMs) }
}

/** Turns the rings of one job into runs: reads the item, does the work, writes the end. */
export function createRunner(deps: RunnerDeps, job: JobDefinition, processor: AnyProcessor) {
  const load = createLoader(deps.db, job, processor)
  const settle = createSettler({ db: deps.db, log: deps.log, signal: deps.writeSignal }, processor)
  const underWay = new Map<number, Promise<unknown>>()
  const patience = { retries: Number.POSITIVE_INFINITY, minTimeout: 50, maxTimeout: 2_000, signal: deps.signal }

  function lease(workId: number, token: string, lost: AbortController) {
    if (!job.leaseMs) return () => {}
    const leaseMs = job.leaseMs
    const timer = setInterval(() => {
      renewLease(deps.db, workId, token, leaseMs).then(
        (kept) => kept || lost.abort(new Error('the lease was lost')),
        (error: unknown) => deps.log.warn({ work: workId, err: messageOf(error) }, 'could not renew a lease'),
      )
    }, leaseMs / 3)
    return () => clearInterval(timer)
  }

  function reporter(ring: Job<RingData>) {
    let last = 0
    return (value: unknown) => {
      const now = Date.now()
      if (now - last < 1_000) return
      last = now
      // Primary key.
      const write = deps.db.execute(
        sql`UPDATE website_worker.work SET progress = ${JSON.stringify(value)}::jsonb WHERE id = ${ring.data.workId}`,
      )
      Promise.all([write, ring.updateProgress(value as object)]).catch(() => {})
    }
  }

  async function attempt(item: LoadedItem, payload: unknown, ring: Job<RingData>, signal: AbortSignal, log: Logger) {
    if (item.blocked !== null) return { kind: 'held', reason: item.blocked } satisfies Outcome
    try {
      return await processor.process(payload, deps.processorDeps, {
        workId: item.workId,
        attempt: item.attempts + 1,
        trigger: item.trigger,
        loaded: item.loaded,
        log,
        signal,
        progress: reporter(ring),
      })
    } catch (error) {
      log.warn({ err: error }, 'a run threw; it will be tried again')
      return { kind: 'retry', error: messageOf(error) } satisfies Outcome
    }
  }

  async function runItem(item: LoadedItem, ring: Job<RingData>) {
    const parsed = job.schema.safeParse(item.payload)
    const token = job.leaseMs ? randomUUID() : null
    if (token && !(await takeLease(deps.db, ring.data, token, job.leaseMs ?? 0)))
      return skipped('another process has it')
    const lost = new AbortController()
    const endLease = token ? lease(item.workId, token, lost) : () => {}
    const log = deps.log.child({ job: job.name, work: item.workId, site: item.siteId })
    const began = performance.now()
    try {
      const outcome: Outcome<unknown> = parsed.success
        ? await attempt(item, parsed.data, ring, token ? AbortSignal.any([deps.signal, lost.signal]) : deps.signal, log)
        : { kind: 'failed', error: `payload: ${parsed.error.issues[0]?.message}` }
      if (deps.signal.aborted && outcome.kind === 'retry') {
        await (token ? returnLease(deps.db, item.workId, token) : rearm(deps.db, [ring.data]))
        return skipped('given back at shutdown')
      }
      const decided = decide(job, outcome, item.attempts, Date.now(), Math.random)
      const error = 'error' in outcome ? storable(outcome.error) : null
      const finish: Finish = {
        workId: item.workId,
        attemptsBefore: item.attempts,
        leaseToken: token,
        outcome: decided.outcome,
        nextAt: decided.nextAt,
        error,
        reason:
          outcome.kind === 'held'
            ? storable(outcome.reason)
            : decided.outcome === 'failed' && outcome.kind === 'retry'
              ? 'out of attempts'
              : null,
        result: outcome.kind === 'done' ? outcome.result : undefined,
      }
      const { record } = outcome
      await settle({
        finish,
        settled:
          record === undefined
            ? undefined
            : {
                workId: item.workId,
                siteId: item.siteId,
                payload: parsed.data,
                attempt: item.attempts + 1,
                trigger: item.trigger,
                outcome: decided.outcome,
                nextAt: decided.nextAt,
                record,
              },
      })
      deps.metrics.runEnded(job.name, decided.outcome, (performance.now() - began) / 1_000)
      log.debug({ outcome: decided.outcome, attempt: item.attempts + 1, nextAt: decided.nextAt, error }, 'run ended')
      if (decided.outcome === 'failed') throw new UnrecoverableError(error ?? 'failed')
      return { outcome: decided.outcome, ...(decided.nextAt && { nextAt: decided.nextAt }), ...(error && { error }) }
    } finally {
      endLease()
    }
  }

  async function runOnce(ring: Job<RingData>) {
    if (ring.stalledCounter > 0) await pRetry(() => countCrash(deps.db, ring.data, maxCrashes), patience)
    const item = await pRetry(() => load(ring.data.workId), patience)
    if (!item) return skipped('its work item is gone')
    if (item.state === 'failed' && item.reason === 'crashed') throw new UnrecoverableError(item.lastError ?? 'crashed')
    if (item.state !== 'owed') return skipped(`its work item is ${item.state}`)
    if (item.generation !== ring.data.generation) return skipped('a later ring replaced it')
    return runItem(item, ring)
  }

  return async function run(ring: Job<RingData>): Promise<unknown> {
    if (!isRing(ring.data)) return skipped('not a ring')
    const { workId } = ring.data
    // After a wipe an item may be rung again while it runs: its second ring waits and then looks at the row.
    while (underWay.has(workId)) await underWay.get(workId)
    const running = runOnce(ring)
    const settled = running.catch(() => {}).finally(() => underWay.delete(workId))
    underWay.set(workId, settled)
    return running
  }
}
