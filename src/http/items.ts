import type { jobStates } from '../client/schemas.ts'
import { findWorkItem, type WorkItem } from '../db/queries/jobs.ts'
import { AppError } from '../errors.ts'
import { holdReasons } from '../queues/hold-reasons.ts'
import { cancel, promote, retry } from '../work/transitions.ts'
import type { AppDeps } from './deps.ts'

/** What changing an item takes. */
export type ItemDeps = Pick<AppDeps, 'db' | 'bell'>

type JobState = (typeof jobStates)[number]

/** BullMQ's word for where a work item stands, or one of our two. */
export function stateOf(item: Pick<WorkItem, 'state' | 'due'>): JobState {
  switch (item.state) {
    case 'owed':
      return item.due ? 'waiting' : 'delayed'
    case 'running':
      return 'active'
    case 'done':
      return 'completed'
    default:
      return item.state
  }
}

/** A work item as the API shows it. */
export function viewJob(item: WorkItem) {
  const { job, siteId, label, reason, progress, attempts, result, createdAt, finishedAt } = item
  return {
    jobId: String(item.workId),
    job,
    siteId,
    label,
    payload: item.payload as Record<string, unknown>,
    state: stateOf(item),
    reason,
    progress,
    attempts,
    nextAt: item.state === 'owed' ? item.nextAt : null,
    failedReason: item.lastError,
    result,
    createdAt,
    finishedAt,
  }
}

/** Switches that hold work; only whoever turned them can turn them back. */
const switchedOff: Record<string, string> = {
  [holdReasons.paused]: "it is paused at this site: resume the site's domain first",
  [holdReasons.domainOff]: 'its domain is switched off: enable it first',
}

/**
 * Owes an item again, at once and from its first attempt; one that waits for a later attempt is owed now.
 * @throws AppError `conflict`, saying why that isn't possible
 */
export async function retryItem(deps: ItemDeps, item: WorkItem): Promise<void> {
  const state = stateOf(item)
  if (state === 'waiting') throw new AppError('conflict', 'It waits for its turn already')
  if (state === 'active') throw new AppError('conflict', 'It is running right now')
  const off = state === 'held' ? switchedOff[item.reason ?? ''] : undefined
  if (off) throw new AppError('conflict', `It can't be retried: ${off}`)
  const rings = await (state === 'delayed' ? promote(deps.db, [item.workId]) : retry(deps.db, [item.workId], 'retry'))
  if (rings.length === 0) await explain(deps, item, 'Another unfinished item does the same work')
  deps.bell.ring(rings)
}

/**
 * Ends an unfinished item for good.
 * @throws AppError `conflict`, saying why that isn't possible
 */
export async function cancelItem(deps: ItemDeps, item: WorkItem, by: string): Promise<void> {
  const changed = await cancel(deps.db, [item.workId], `cancelled by ${by}`)
  if (changed.length === 0) await explain(deps, item, `It is ${stateOf(item)} already`)
}

/** Says why a transition changed nothing: the item was overtaken, or `otherwise`. */
async function explain(deps: ItemDeps, { job, workId, state }: WorkItem, otherwise: string): Promise<never> {
  const now = await findWorkItem(deps.db, job, workId)
  if (!now) throw new AppError('not_found', 'It is no longer kept')
  throw new AppError('conflict', now.state === state ? otherwise : `It is ${stateOf(now)} by now`)
}
