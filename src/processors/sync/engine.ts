import type { Tx } from '../../db/client.ts'
import { readAsks } from '../../db/queries/sync/asks.ts'
import { dropVersions, findCheckpoint } from '../../db/queries/sync/checkpoints.ts'
import { beginRun, type RunOptions, type RunPlan, type RunWanted } from '../../db/queries/sync/runs.ts'
import { findErpSite, type ErpSite } from '../../db/queries/sync/sites.ts'
import { AppError } from '../../errors.ts'
import type { SyncPayload } from '../../queues/sync-job.ts'
import type { Outcome, Processor, RunContext } from '../contract.ts'
import type { SiteErp, SyncDeps } from './deps.ts'
import { discoverSyncs } from './discovery.ts'
import { settleSyncs, type SyncRecord } from './ending.ts'
import { isFullDue, planRun } from './plan.ts'
import { runThrough } from './run-through.ts'
import type { SyncStream } from './stream.ts'

/** How soon an item looks again whether another one's run has ended, ms. */
const turnMs = { least: 2_000, most: 5_000 }

/** The job that reads one stream: everything about it that isn't the stream's own. */
export function syncStream(stream: SyncStream): Processor<SyncPayload, SyncDeps, undefined, SyncRecord> {
  return {
    process: (payload, deps, context) => processSync(stream, payload, deps, context),
    settle: settleSyncs,
    discover: discoverSyncs(stream.type),
  }
}

async function processSync(
  stream: SyncStream,
  payload: SyncPayload,
  deps: SyncDeps,
  context: RunContext<undefined>,
): Promise<Outcome<SyncRecord>> {
  const { sync } = deps
  const { type } = stream
  const { workId } = context
  const site = await findErpSite(sync.db, payload.siteId)
  if (!site) return { kind: 'failed', error: 'the site was deleted' }
  const options: RunOptions = {
    ...(payload.force && { force: true }),
    ...(payload.audit && { audit: true }),
    ...(payload.skus && { skus: [...new Set(payload.skus)] }),
  }
  const erp = openErp(deps, site)
  if (erp instanceof AppError) {
    const mode = payload.skus || payload.asked ? 'targeted' : payload.mode === 'incremental' ? 'incremental' : 'full'
    const error = erp.message
    const run = { siteId: site.siteId, type, mode, options, workId, error } as const
    return { kind: 'failed', error, record: { kind: 'refused', run } }
  }
  const { source, types } = erp.connector
  if (!types.includes(type)) return { kind: 'done', result: { skipped: `the ERP has no stream of type ${type}` } }

  const wanted: RunWanted = { siteId: site.siteId, type, workId, source }
  const begun = await beginRun(sync.db, wanted, (tx) => plan(tx, wanted, site, payload, options, context.trigger))
  if (begun.kind === 'busy')
    return { kind: 'postponed', inMs: Math.round(turnMs.least + Math.random() * (turnMs.most - turnMs.least)) }
  if (begun.kind === 'unneeded') return { kind: 'done', result: { skipped: 'nothing is asked for any more' } }
  return runThrough({ sync, stream, erp, wanted, row: begun.row, context })
}

function openErp({ sync }: SyncDeps, site: ErpSite): SiteErp | AppError {
  try {
    return sync.open(site)
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  }
}

async function plan(
  tx: Tx,
  { siteId, type, source }: RunWanted,
  site: ErpSite,
  payload: SyncPayload,
  options: RunOptions,
  trigger: string,
): Promise<RunPlan | undefined> {
  const checkpoint = await findCheckpoint(tx, siteId, type)
  const isDue = trigger === 'schedule' && checkpoint !== undefined && isFullDue(site, type, checkpoint)
  if (!payload.asked) {
    const planned = planRun(payload, options, checkpoint, source, isDue)
    // Versions of one ERP say nothing about those of another.
    const isElsewhere = checkpoint !== undefined && checkpoint.fullAtMs !== null && checkpoint.source !== source
    if (isElsewhere && planned.mode === 'full' && !options.audit) await dropVersions(tx, siteId, type)
    return planned
  }
  const { ids, skus } = await readAsks(tx, siteId, type)
  if (ids.length === 0) return undefined
  return planRun(payload, { ...options, skus, asks: ids }, checkpoint, source, false)
}
