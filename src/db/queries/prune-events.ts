import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { deliveryWatermark, type PruneOptions, walk } from './prune-steps.ts'

const batch = 1_000

/** Empties the bodies of events older than `payloadsDays`, but for those that a delivery may still send. */
export async function pruneEventBodies(db: Db, { payloadsDays, signal }: PruneOptions): Promise<number> {
  const watermark = await deliveryWatermark(db)
  // events_body_kept; for each event idx_website_webhooks_site_id, the ledger's unique (webhook_id, event_id), whose
  // condition the watermark has to match as a literal, and work_unfinished_key, in subqueries that are never made a join.
  // The rows are written where they lie.
  return walk(
    db,
    signal,
    batch,
    { createdAt: '-infinity', siteId: 0, id: '' },
    (after) => sql`
      WITH page AS MATERIALIZED (
        SELECT e.ctid AS at, e.site_id, e.id, e.created_at
        FROM website_worker.events e
        WHERE e.body IS NOT NULL AND e.created_at < now() - ${payloadsDays} * interval '1 day'
          AND e.created_at >= ${after.createdAt}::timestamptz
          AND (e.created_at, e.site_id, e.id) > (${after.createdAt}::timestamptz, ${after.siteId}::int, ${after.id}::text)
        ORDER BY e.created_at, e.site_id, e.id LIMIT ${batch}),
      emptied AS (
        UPDATE website_worker.events e SET body = NULL WHERE e.ctid = ANY (ARRAY(
          SELECT p.at FROM page p WHERE (
            SELECT d.id FROM public.website_webhooks w
            JOIN public.website_webhook_deliveries d
              ON d.webhook_id = w.id AND d.event_id = p.id AND d.id > ${sql.raw(String(watermark))}
            WHERE w.site_id = p.site_id AND (
              SELECT k.id FROM website_worker.work k
              WHERE k.job = 'deliver-webhook' AND k.key = d.id::text AND k.state IN ('owed', 'running', 'held')
              LIMIT 1) IS NOT NULL
            LIMIT 1) IS NULL))
        RETURNING 1)
      SELECT (SELECT count(*) FROM page)::int AS looked, (SELECT count(*) FROM emptied)::int AS removed,
        (SELECT json_build_object('createdAt', created_at::text, 'siteId', site_id, 'id', id) FROM page
         ORDER BY created_at DESC, site_id DESC, id DESC LIMIT 1) AS last`,
  )
}
