import { and, desc, eq, isNull, lt } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { syncQuarantine, syncRuns } from '../../schema/erp.ts'

/** A page of a site's rows, newest first. */
export interface PageOf {
  siteId: number
  /** Only ids below this one. Default: from the newest. */
  before?: number | undefined
  limit: number
}

export interface RunFilter extends PageOf {
  type?: (typeof syncRuns.type.enumValues)[number] | undefined
  state?: (typeof syncRuns.state.enumValues)[number] | undefined
}

/** Runs of a site. */
export function listRuns(db: Db, { siteId, type, state, before, limit }: RunFilter) {
  // sync_runs_site; what is passed over for its type or state is a site's last 30 days at most.
  return db
    .select({
      id: syncRuns.id,
      type: syncRuns.type,
      mode: syncRuns.mode,
      status: syncRuns.state,
      phase: syncRuns.phase,
      options: syncRuns.options,
      fetched: syncRuns.staged,
      rejected: syncRuns.rejected,
      counts: syncRuns.counts,
      error: syncRuns.error,
      workId: syncRuns.workId,
      startedAt: syncRuns.startedAt,
      finishedAt: syncRuns.finishedAt,
    })
    .from(syncRuns)
    .where(
      and(
        eq(syncRuns.siteId, siteId),
        before === undefined ? undefined : lt(syncRuns.id, before),
        type && eq(syncRuns.type, type),
        state && eq(syncRuns.state, state),
      ),
    )
    .orderBy(desc(syncRuns.id))
    .limit(limit)
}

/** What of a site's ERP can't be taken. */
export function listQuarantine(db: Db, { siteId, before, limit }: PageOf) {
  // sync_quarantine_site; what was resolved is passed over, and kept 30 days.
  return db
    .select({
      id: syncQuarantine.id,
      type: syncQuarantine.type,
      entity: syncQuarantine.entity,
      erpId: syncQuarantine.erpId,
      sku: syncQuarantine.sku,
      reason: syncQuarantine.reason,
      snapshot: syncQuarantine.snapshot,
      firstSeenAt: syncQuarantine.firstSeenAt,
      lastSeenAt: syncQuarantine.lastSeenAt,
    })
    .from(syncQuarantine)
    .where(
      and(
        eq(syncQuarantine.siteId, siteId),
        isNull(syncQuarantine.resolvedAt),
        before === undefined ? undefined : lt(syncQuarantine.id, before),
      ),
    )
    .orderBy(desc(syncQuarantine.id))
    .limit(limit)
}
