import { DrizzleQueryError } from 'drizzle-orm'
import { endPending, unansweredSkus } from '../../db/queries/sync/asks.ts'
import { analyzeCatalog, analyzeStaging } from '../../db/queries/sync/analyze.ts'
import { fence, type ApplyCounts, type SyncRun } from '../../db/queries/sync/run.ts'
import { restartRun, type RunRow, type RunWanted } from '../../db/queries/sync/runs.ts'
import type { EndingRun } from '../../db/queries/sync/run-ends.ts'
import { transact } from '../../db/client.ts'
import { pgErrorOf } from '../../db/queries/pg-error.ts'
import { mayPass } from '../../db/unreachable.ts'
import { AppError, messageOf } from '../../errors.ts'
import type { Outcome, RunContext } from '../contract.ts'
import { brakeOf } from './brake.ts'
import type { SiteErp, SyncDeps } from './deps.ts'
import type { SyncRecord } from './ending.ts'
import { fetchPages, type Fetched } from './fetching.ts'
import { keepingLease } from './run-lease.ts'
import type { SyncStream } from './stream.ts'

export interface RunParts {
  sync: SyncDeps['sync']
  stream: SyncStream
  erp: SiteErp
  wanted: RunWanted
  row: RunRow
  context: RunContext<undefined>
}

type SyncOutcome = Outcome<SyncRecord>
type Drift = Awaited<ReturnType<SyncStream['audit']>>

const stopped = 'stopped on the way; it goes on from where it was'
/** How often the ERP may forget where a run was before that counts as a failure. */
const mostRestarts = 2
/** A run that came further goes on this soon, ms, at no attempt. */
const goOnMs = 5_000
const longestWaitMs = 3_600_000

/** Counts that tell of no change. */
const quiet = new Set([
  'fetched',
  'rejected',
  'unchanged',
  'stale',
  'unknown',
  'sweepSkipped',
  'categoriesUnknown',
  'deleted',
  'shadowed',
])

/** A statement that takes too long would do so again. */
const isTooSlow = (error: unknown) => pgErrorOf(error)?.code === '57014'

/** Takes a run from where it is to its end, or as far as it gets. */
export async function runThrough(parts: RunParts): Promise<SyncOutcome> {
  const { sync, context } = parts
  let { row } = parts
  for (let restarts = 0; ; restarts++) {
    const now = { ...parts, row }
    try {
      const outcome = await keepingLease({ db: sync.db, log: context.log, signal: context.signal }, row, (signal) =>
        stepThrough(now, signal),
      )
      if (outcome !== 'expired') return outcome
      if (restarts === mostRestarts) return again(now, 'the ERP forgets where a traversal was before it ends')
    } catch (error) {
      // The next attempt finds out whether it is still ours, and whole.
      if (error instanceof AppError && error.code === 'conflict') return postponed(now, error.message, 1_000)
      if (context.signal.aborted) return again(now, stopped)
      context.log.warn({ run: row.runId, err: error }, 'a sync was broken off')
      const isInTheWay = error instanceof AppError ? error.code === 'unavailable' : mayPass(error) && !isTooSlow(error)
      const words = pgErrorOf(error)?.message ?? messageOf(error instanceof DrizzleQueryError ? error.cause : error)
      return isInTheWay ? postponed(now, words, goOnMs) : again(now, words)
    }
    const anew = await restartRun(sync.db, parts.wanted, row)
    if (!anew) return postponed(now, 'the run was taken over', 1_000)
    row = anew
  }
}

async function stepThrough(parts: RunParts, signal: AbortSignal): Promise<SyncOutcome | 'expired'> {
  const { sync, stream, erp, row, context } = parts
  const run = syncRunOf(parts)
  const show = (phase: 'fetching' | 'applying', applied: number, total: number | null) =>
    context.progress({
      phase,
      fetched: row.staged,
      applied,
      total,
      percent: total === null ? null : total === 0 ? 100 : Math.min(100, Math.floor((applied * 100) / total)),
    })
  const fetched = await fetchPages(
    {
      db: sync.db,
      stream,
      connector: erp.connector,
      run,
      signal,
      called: (outcome) => sync.erpCalled?.(outcome),
      progress: () => show('fetching', 0, null),
    },
    row,
  )
  if (fetched.kind === 'expired') return 'expired'
  if (fetched.kind !== 'fetched') return unfetched(parts, fetched)
  await analyzeStaging(sync.db, row).catch((error: unknown) =>
    context.log.warn(
      { run: row.runId, err: error },
      'statements of a sync are planned without knowing what it has read',
    ),
  )
  if (row.options.audit) return audited(parts, run)

  if (row.appliedThrough === 0) {
    const braked = row.options.force ? undefined : brakeOf(run, await stream.judge(sync.db, run))
    if (braked) return failed(parts, braked, { fetched: row.staged, rejected: row.rejected })
  }
  const wrote = await stream.apply(sync.db, run, {
    signal,
    progress: (done, total) => show('applying', done, total),
  })
  if (signal.aborted) return again(parts, stopped)
  const counts = { fetched: row.staged, rejected: row.rejected, ...wrote }
  for (const [change, rows] of Object.entries(wrote)) if (rows > 0) sync.rowsSynced?.(stream.type, change, rows)
  return finished(parts, run, counts, row.appliedThrough > 0)
}

/** What the stream's steps are told of the run. */
function syncRunOf({ stream, erp, wanted, row }: RunParts): SyncRun {
  return {
    runId: row.runId,
    siteId: wanted.siteId,
    type: stream.type,
    mode: row.mode,
    token: row.token,
    force: row.options.force === true,
    isFirst: row.isFirst,
    hasPriceStream: erp.connector.types.includes('price'),
    pushesOrders: erp.pushesOrders,
    fields: erp.fields,
    appliedThrough: row.appliedThrough,
  }
}

/** What is left once everything is written: whoever waits is told, drift is measured, statistics are renewed. */
async function finished(parts: RunParts, run: SyncRun, wrote: ApplyCounts, wroteBefore: boolean): Promise<SyncOutcome> {
  const { sync, stream, row, wanted } = parts
  let counts: Record<string, unknown> = wrote
  if (row.options.skus) {
    const { skus } = row.options
    const unknown = await unansweredSkus(sync.db, run.runId, skus)
    const failed =
      stream.type === 'product'
        ? await transact(sync.db, async (tx) => {
            await fence(tx, run)
            return endPending(tx, wanted.siteId, skus, unknown)
          })
        : 0
    counts = { ...counts, unknown: unknown.length, ...(failed > 0 && { notInErp: failed }) }
  }
  const isNews = wroteBefore || Object.entries(counts).some(([name, count]) => !quiet.has(name) && Number(count) > 0)
  const drift = row.mode === 'full' ? await stream.audit(sync.db, run) : null
  if (isNews) await analyzeCatalog(sync.db, stream.type, run.siteId, row)
  return done(parts, counts, drift, isNews)
}

async function audited(parts: RunParts, run: SyncRun): Promise<SyncOutcome> {
  const { sync, stream, row } = parts
  const drift = await stream.audit(sync.db, run)
  return done(parts, { fetched: row.staged, rejected: row.rejected }, drift, false)
}

const endingOf = ({ stream, wanted, row }: RunParts): EndingRun => ({
  runId: row.runId,
  token: row.token,
  siteId: wanted.siteId,
  type: stream.type,
  mode: row.mode,
})

function done(parts: RunParts, counts: object, drift: Drift | null, isNews: boolean): SyncOutcome {
  const { row, wanted } = parts
  const { options, runId, mode } = row
  const checkpoint = row.mode === 'targeted' || options.audit ? null : row.checkpoint
  const all = { ...counts, ...(drift && { drift }) }
  const ended = { source: wanted.source, checkpoint, options, counts: all, drift: drift?.differing ?? null, isNews }
  return {
    kind: 'done',
    result: { runId, mode, counts, ...(drift && { drift }) },
    record: { kind: 'done', run: { ...endingOf(parts), ...ended } },
  }
}

const failed = (parts: RunParts, error: string, counts: object): SyncOutcome => ({
  kind: 'failed',
  error,
  record: { kind: 'failed', run: endingOf(parts), error, counts },
})

const again = (parts: RunParts, error: string): SyncOutcome => ({
  kind: 'retry',
  error,
  record: { kind: 'unfinished', run: endingOf(parts), error },
})

const postponed = (parts: RunParts, error: string, inMs: number): SyncOutcome => ({
  kind: 'postponed',
  inMs,
  record: { kind: 'unfinished', run: endingOf(parts), error },
})

/** How a run ends that couldn't read everything. What the ERP, a limit or the breaker asks to wait costs no attempt. */
function unfetched(parts: RunParts, fetched: Exclude<Fetched, { kind: 'fetched' | 'expired' }>): SyncOutcome {
  if (fetched.kind === 'stopped') return again(parts, stopped)
  const { row } = parts
  if (fetched.kind === 'unusable') return failed(parts, fetched.error, { fetched: row.staged, rejected: row.rejected })
  const { error, retryAfterMs, isBreakerOpen, pages } = fetched
  if (retryAfterMs === null && !isBreakerOpen && pages === 0) return again(parts, error)
  parts.context.log.info({ run: row.runId, retryAfterMs, err: error }, 'the ERP can not be read now; going on later')
  return postponed(parts, error, Math.min(longestWaitMs, Math.max(1_000, retryAfterMs ?? goOnMs)))
}
