import { randomUUID } from 'node:crypto'
import { UnrecoverableError, type Job } from 'bullmq'
import { sql } from 'drizzle-orm'
import pRetry from 'p-retry'
import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import { mayPass } from '../db/unreachable.ts'
import { messageOf } from '../errors.ts'
import type { Outcome } from '../processors/contract.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import type { RingData } from '../work/backend.ts'
import { maxCrashes } from '../work/dispatcher.ts'
import { countCrash, rearm, returnLease, takeLease } from '../work/transitions.ts'
import { endingOf } from './ending.ts'
import { keepLease } from './lease.ts'
import { createLoader, type LoadedItem } from './load.ts'
import type { Metrics } from './metrics.ts'
import type { AnyProcessor } from './processor.ts'
import { createSettler } from './settle.ts'

export interface RunnerDeps {
  db: Db
  /** Where runs read and end their items: by key, waiting for no one else's lock. */
  itemsDb: Db
  log: Logger
  metrics: Metrics
  /** What the processor is given. */
  processorDeps: unknown
  /** Hears that an item of a lane has ended, and that there is room for the next. */
  pullLane(lane: string): void
  /** Aborted when runs must end. */
  signal: AbortSignal
  /** Aborted when even their last writes must. */
  writeSignal: AbortSignal
}

/** The lease of a run, for a job that takes one. */
interface Lease {
  token: string | null
  signal: AbortSignal
  end(): void
}

const skipped = (why: string) => ({ outcome: 'skipped', why })

function isRing(data: unknown): data is RingData {
  const ring = data as Partial<RingData> | null
  return Number.isSafeInteger(ring?.workId) && Number.isSafeInteger(ring?.generation)
}

/** Turns the rings of one job into runs: reads the item, does the work, writes the end. */
export function createRunner(deps: RunnerDeps, job: JobDefinition, processor: AnyProcessor) {
  const load = createLoader(deps.itemsDb, job, processor)
  const settle = createSettler({ db: deps.itemsDb, log: deps.log, signal: deps.writeSignal }, processor)
  const underWay = new Map<number, Promise<unknown>>()

  /** Waits out a database that is away. */
  async function patiently<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask()
    } catch (error) {
      if (!mayPass(error)) throw error
    }
    return pRetry(ask, {
      retries: Number.POSITIVE_INFINITY,
      minTimeout: 50,
      maxTimeout: 2_000,
      signal: deps.signal,
      shouldRetry: ({ error }) => mayPass(error),
    })
  }

  async function lease(ring: RingData): Promise<Lease | undefined> {
    const { leaseMs } = job
    if (!leaseMs) return { token: null, signal: deps.signal, end: () => {} }
    const token = randomUUID()
    const takenAt = performance.now()
    if (!(await takeLease(deps.db, ring, token, leaseMs))) return undefined
    const lost = new AbortController()
    const end = keepLease(deps, { workId: ring.workId, token, leaseMs, takenAt }, lost)
    return { token, signal: AbortSignal.any([deps.signal, lost.signal]), end }
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

  async function attempt(
    item: LoadedItem,
    ring: Job<RingData>,
    signal: AbortSignal,
    log: Logger,
  ): Promise<Outcome<unknown>> {
    if (item.blocked !== null) return { kind: 'held', reason: item.blocked }
    const parsed = job.schema.safeParse(item.payload)
    if (!parsed.success) return { kind: 'failed', error: `payload: ${parsed.error.issues[0]?.message}` }
    if (item.loadError !== null) return { kind: 'retry', error: item.loadError }
    try {
      const { workId, trigger, lane, loaded } = item
      const context = {
        workId,
        attempt: item.attempts + 1,
        trigger,
        lane,
        loaded,
        log,
        signal,
        progress: reporter(ring),
      }
      return await processor.process(parsed.data, deps.processorDeps, context)
    } catch (error) {
      log.warn({ err: error }, 'a run threw; it will be tried again')
      return { kind: 'retry', error: messageOf(error) }
    }
  }

  function endingOrFailure(item: LoadedItem, token: string | null, outcome: Outcome<unknown>) {
    try {
      return endingOf(job, item, item.payload, token, outcome)
    } catch (error) {
      const words = `its end could not be written down: ${messageOf(error)}`
      return endingOf(job, item, item.payload, token, { kind: 'failed', error: words })
    }
  }

  async function runItem(item: LoadedItem, ring: Job<RingData>) {
    const held = await lease(ring.data)
    if (!held) return skipped('another process has it')
    const log = deps.log.child({ job: job.name, work: item.workId, site: item.siteId })
    const began = performance.now()
    try {
      const outcome = await attempt(item, ring, held.signal, log)
      if (deps.signal.aborted && outcome.kind === 'retry') {
        await (held.token ? returnLease(deps.db, item.workId, held.token) : rearm(deps.db, [ring.data]))
        return skipped('given back at shutdown')
      }
      const ending = endingOrFailure(item, held.token, outcome)
      await settle(ending)
      const { outcome: end, error, waitMs } = ending.finish
      // What was turned away by its own lane's remote waits for the next tick: it would only be turned away again.
      if (item.lane !== null && (end !== 'parked' || item.lane !== ending.finish.lane)) deps.pullLane(item.lane)
      if (end === 'parked') return skipped('parked: its remote can take no more now')
      deps.metrics.runEnded(job.name, end, (performance.now() - began) / 1_000)
      log.debug({ outcome: end, attempt: item.attempts + 1, waitMs, error }, 'run ended')
      if (end === 'failed') throw new UnrecoverableError(error ?? 'failed')
      return { outcome: end, ...(waitMs !== null && { waitMs }), ...(error && { error }) }
    } finally {
      held.end()
    }
  }

  async function runOnce(ring: Job<RingData>) {
    if (ring.stalledCounter > 0) await patiently(() => countCrash(deps.db, ring.data, maxCrashes))
    const item = await patiently(() => load(ring.data))
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
