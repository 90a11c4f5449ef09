import { sql } from 'drizzle-orm'
import type { SyncMode, SyncType } from '../../../erp.ts'
import { syncJobs } from '../../../queues/sync-job.ts'
import type { Tx } from '../../client.ts'
import { endAsks } from './asks.ts'
import { noteFailure, noteSuccess } from './checkpoints.ts'
import { logRun } from './logs.ts'
import type { RunOptions } from './runs.ts'

/** A run that ends, as its holder knows it. */
export interface EndingRun {
  runId: number
  token: string
  siteId: number
  type: SyncType
  mode: SyncMode
}

/** How a run ended well. */
export interface DoneRun extends EndingRun {
  source: string
  /** Where the next traversal begins; null where this run doesn't say. */
  checkpoint: string | null
  options: RunOptions
  counts: object
  drift: number | null
  /** It changed something: the main app's log tells of it. */
  isNews: boolean
}

/** Ends a run, and with it what was asked of it, unless another process has taken it over. */
export async function closeRun(tx: Tx, run: DoneRun): Promise<void> {
  const { runId, token, siteId, type, mode, counts, options } = run
  // Primary key.
  const { rowCount } = await tx.execute(
    sql`UPDATE website_worker.sync_runs SET state = 'done', error = NULL,
          counts = ${JSON.stringify(counts)}::jsonb, finished_at = now()
        WHERE id = ${runId} AND token = ${token}::uuid AND state = 'running'`,
  )
  if (rowCount === 0) return
  await noteSuccess(tx, { ...run, isFull: mode === 'full' && !options.audit, isAudit: options.audit === true })
  if (options.asks) await endAsks(tx, syncJobs[type], siteId, type, options.asks)
  if (run.isNews) await logRun(tx, { ...run, error: null })
}

/** Ends a run that wrote nothing, or not all of it, unless another process has taken it over. */
export async function failRun(tx: Tx, run: EndingRun, error: string, counts: object): Promise<void> {
  const { runId, token, siteId, type } = run
  // Primary key.
  const { rowCount } = await tx.execute(
    sql`UPDATE website_worker.sync_runs
        SET state = 'failed', error = ${error}, counts = ${JSON.stringify(counts)}::jsonb, finished_at = now()
        WHERE id = ${runId} AND token = ${token}::uuid AND state = 'running'`,
  )
  if (rowCount === 0) return
  if (await noteFailure(tx, siteId, type, error)) await logRun(tx, { ...run, error, counts })
}

/** Lets go of a run that goes on later, saying why: whoever runs its work item next takes it up at once. */
export async function releaseRun(
  tx: Tx,
  { runId, token }: Pick<EndingRun, 'runId' | 'token'>,
  error: string,
): Promise<void> {
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.sync_runs SET lease_until = now(), error = ${error}
        WHERE id = ${runId} AND token = ${token}::uuid AND state = 'running'`,
  )
}

/** A run that could not begin. */
export interface RefusedRun {
  siteId: number
  type: SyncType
  mode: SyncMode
  options: RunOptions
  workId: number
  error: string
}

/** Writes down that a run could not begin, so that whoever looks for it finds why. */
export async function refuseRun(tx: Tx, run: RefusedRun): Promise<void> {
  const { siteId, type, mode, options, workId, error } = run
  const { rows } = await tx.execute(
    sql`INSERT INTO website_worker.sync_runs (site_id, type, mode, state, work_id, token, lease_until, options, source, error, finished_at)
        VALUES (${siteId}, ${type}, ${mode}, 'failed', ${workId}, gen_random_uuid(), now(), ${JSON.stringify(options)}::jsonb, '', ${error}, now())
        RETURNING id`,
  )
  const runId = Number(rows[0]?.['id'])
  if (await noteFailure(tx, siteId, type, error)) await logRun(tx, { siteId, type, runId, mode, error, counts: {} })
}
