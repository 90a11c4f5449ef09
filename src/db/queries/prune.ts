import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../client.ts'

const batch = 5_000

/** Runs a bounded statement until it finds nothing more, so that no lock or transaction is long. */
async function untilDone(db: Db, signal: AbortSignal, statement: SQL): Promise<number> {
  let total = 0
  while (!signal.aborted) {
    const { rowCount } = await db.execute(statement)
    total += rowCount ?? 0
    if ((rowCount ?? 0) < batch) break
  }
  return total
}

export interface PruneOptions {
  /** Event bodies older than this are emptied; their id and hash stay 90 days. */
  payloadsDays: number
  signal: AbortSignal
}

/** Removes what the worker's own tables no longer need; never touches a shared table. Returns the counts. */
export async function pruneOwnTables(db: Db, options: PruneOptions): Promise<Record<string, number>> {
  const { payloadsDays, signal } = options
  return {
    // work_finished. Age is asked twice: only the outer condition sees what became of a row that had to be waited for.
    workItems: await untilDone(
      db,
      signal,
      sql`DELETE FROM website_worker.work w USING (
            SELECT id FROM website_worker.work
            WHERE finished_at < now() - interval '7 days' ORDER BY finished_at LIMIT ${batch}) old
          WHERE w.id = old.id AND w.finished_at < now() - interval '7 days'`,
    ),
    // Primary keys; those of replays that failed or were cancelled, and are no longer kept.
    replays: await untilDone(
      db,
      signal,
      sql`DELETE FROM website_worker.webhook_replays WHERE work_id IN (
            SELECT r.work_id FROM website_worker.webhook_replays r
            WHERE NOT EXISTS (SELECT FROM website_worker.work w WHERE w.id = r.work_id) LIMIT ${batch})`,
    ),
    // events_body_kept.
    eventBodies: await untilDone(
      db,
      signal,
      sql`UPDATE website_worker.events e SET body = NULL FROM (
            SELECT site_id, id FROM website_worker.events
            WHERE body IS NOT NULL AND created_at < now() - ${payloadsDays} * interval '1 day'
            ORDER BY created_at LIMIT ${batch}) old
          WHERE e.site_id = old.site_id AND e.id = old.id`,
    ),
    // events_created_at.
    events: await untilDone(
      db,
      signal,
      sql`DELETE FROM website_worker.events e USING (
            SELECT site_id, id FROM website_worker.events
            WHERE created_at < now() - greatest(90, ${payloadsDays}) * interval '1 day' ORDER BY created_at LIMIT ${batch}) old
          WHERE e.site_id = old.site_id AND e.id = old.id`,
    ),
    // idempotency_keys_created_at.
    idempotencyKeys: await untilDone(
      db,
      signal,
      sql`DELETE FROM website_worker.idempotency_keys k USING (
            SELECT principal, key FROM website_worker.idempotency_keys
            WHERE created_at < now() - interval '1 day' ORDER BY created_at LIMIT ${batch}) old
          WHERE k.principal = old.principal AND k.key = old.key AND k.created_at < now() - interval '1 day'`,
    ),
  }
}
