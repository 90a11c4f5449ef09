import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { pruneDeliveries } from './prune-deliveries.ts'
import { pruneEventBodies } from './prune-events.ts'
import { type PruneOptions, untilDone } from './prune-steps.ts'
import { pruneSyncs } from './sync/prune.ts'

const batch = 5_000

// website_pages_pkey, for the few items that it is asked of.
const keepsPage = sql`(job = 'publish-page' AND state IN ('failed', 'cancelled') AND EXISTS (
  SELECT FROM public.website_pages p
  WHERE p.id = CASE WHEN key ~ '^[0-9]{1,10}$' THEN key::bigint END AND p.status = 'scheduled' AND p.deleted_at IS NULL
    AND website_worker.instant_text(p.publish_at AT TIME ZONE 'UTC') = payload ->> 'publishAt'))`

/**
 * Removes what is no longer needed, in statements of bounded size: from the worker's own tables, and from the ledger
 * where a retention is set for it. Whole tables are never read: what is picked is handed on as an array, for which no
 * planner reads a table. Returns the counts.
 */
export async function prune(db: Db, options: PruneOptions): Promise<Record<string, number>> {
  const { payloadsDays, signal } = options
  const all = (statement: SQL) => untilDone(db, signal, batch, statement)
  return {
    // work_finished. Age is asked twice: only the outer condition sees what became of a row that had to be waited for. The
    // item that failed or was cancelled for the time its page is still scheduled for keeps that page from being owed.
    workItems: await all(
      sql`DELETE FROM website_worker.work w WHERE w.finished_at < now() - interval '7 days' AND w.id = ANY (ARRAY(
            SELECT id FROM website_worker.work
            WHERE finished_at < now() - interval '7 days' AND NOT ${keepsPage} ORDER BY finished_at LIMIT ${batch}))`,
    ),
    // Primary keys, in a subquery that is never made a join; those of replays that failed or were cancelled, and are no
    // longer kept.
    replays: await all(
      sql`DELETE FROM website_worker.webhook_replays WHERE work_id = ANY (ARRAY(
            SELECT r.work_id FROM website_worker.webhook_replays r
            WHERE (SELECT w.id FROM website_worker.work w WHERE w.id = r.work_id) IS NULL LIMIT ${batch}))`,
    ),
    // Primary keys and work_unfinished_key, row by row; of pages that were deleted for good, once their items have ended.
    pageRequests: await all(
      sql`DELETE FROM website_worker.page_requests WHERE page_id = ANY (ARRAY(
            SELECT r.page_id FROM website_worker.page_requests r
            WHERE r.work_id IS NULL AND (SELECT p.id FROM public.website_pages p WHERE p.id = r.page_id) IS NULL
              AND (SELECT w.id FROM website_worker.work w WHERE w.job = 'publish-page' AND w.key = r.page_id::text
                     AND w.state IN ('owed', 'running', 'held') LIMIT 1) IS NULL LIMIT ${batch}))`,
    ),
    // Two small tables; of webhooks that were deleted.
    webhookHealth: await all(
      sql`DELETE FROM website_worker.webhook_health WHERE webhook_id = ANY (ARRAY(
            SELECT h.webhook_id FROM website_worker.webhook_health h
            WHERE NOT EXISTS (SELECT FROM public.website_webhooks w WHERE w.id = h.webhook_id) LIMIT ${batch}))`,
    ),
    // Before the bodies: what is gone from the ledger waits for no body.
    ...(await pruneDeliveries(db, options)),
    eventBodies: await pruneEventBodies(db, options),
    // events_emptied, and its rows where they lie. An event keeps its body as long as a delivery may need it, and stays.
    events: await all(
      sql`DELETE FROM website_worker.events e WHERE e.ctid = ANY (ARRAY(
            SELECT ctid FROM website_worker.events
            WHERE body IS NULL AND created_at < now() - greatest(90, ${payloadsDays}) * interval '1 day'
            ORDER BY created_at LIMIT ${batch}))`,
    ),
    ...(await pruneSyncs(db, signal)),
    // idempotency_keys_created_at, and its rows where they lie; one that was taken over meanwhile lies elsewhere.
    idempotencyKeys: await all(
      sql`DELETE FROM website_worker.idempotency_keys k WHERE k.ctid = ANY (ARRAY(
            SELECT ctid FROM website_worker.idempotency_keys
            WHERE created_at < now() - interval '1 day' ORDER BY created_at LIMIT ${batch}))`,
    ),
  }
}
