import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { deliveryWatermark, type PruneOptions, walk } from './prune-steps.ts'

const batch = 2_000

/** The first delivery of ours that is younger than so many days; the last of all ids when there is none. */
async function firstYounger(db: Db, days: number, watermark: number): Promise<number> {
  // idx_website_webhook_deliveries_created_at. Ids grow with time, but for transactions that took long.
  const { rows } = await db.execute(
    sql`SELECT coalesce((
          SELECT id FROM public.website_webhook_deliveries
          WHERE created_at >= (now() - ${days} * interval '1 day') AT TIME ZONE 'UTC' AND id > ${watermark}
          ORDER BY created_at LIMIT 1), 2147483647) AS id`,
  )
  return rows[0]!.id as number
}

/**
 * Removes attempts older than `payloadsDays`, and, where `deliveriesDays` is set, ledger rows with all their attempts:
 * made and delivered before, with no work item that is unfinished or ended since. What the main app wrote before the
 * worker was installed stays.
 */
export async function pruneDeliveries(
  db: Db,
  { payloadsDays, deliveriesDays, signal }: PruneOptions,
): Promise<{ deliveries: number; attempts: number }> {
  const watermark = await deliveryWatermark(db)
  let deliveries = 0
  if (deliveriesDays !== undefined) {
    const end = await firstYounger(db, deliveriesDays, watermark)
    const cutoff = sql`(now() - ${deliveriesDays} * interval '1 day')`
    // Primary keys of the ledger and the attempts; work_job_key for each row, in a subquery that is never made a join.
    // Age is asked twice: only the outer condition sees what became of a row that had to be waited for.
    deliveries = await walk(
      db,
      signal,
      batch,
      watermark,
      (after) => sql`
        WITH page AS MATERIALIZED (
          SELECT id, created_at, delivered_at FROM public.website_webhook_deliveries
          WHERE id > ${after}::int AND id < ${end}::int ORDER BY id LIMIT ${batch}),
        gone AS (
          DELETE FROM public.website_webhook_deliveries d WHERE d.id = ANY (ARRAY(
            SELECT p.id FROM page p
            WHERE p.created_at < ${cutoff} AT TIME ZONE 'UTC'
              AND (p.delivered_at IS NULL OR p.delivered_at < ${cutoff} AT TIME ZONE 'UTC')
              AND (SELECT k.id FROM website_worker.work k
                   WHERE k.job = 'deliver-webhook' AND k.key = p.id::text
                     AND (k.finished_at IS NULL OR k.finished_at >= ${cutoff}) LIMIT 1) IS NULL
            ORDER BY p.id))
            AND (d.delivered_at IS NULL OR d.delivered_at < ${cutoff} AT TIME ZONE 'UTC')
          RETURNING d.id),
        attempts AS (
          DELETE FROM website_worker.webhook_attempts a WHERE a.delivery_id = ANY (ARRAY(SELECT id FROM gone)))
        SELECT (SELECT count(*) FROM page)::int AS looked, (SELECT count(*) FROM gone)::int AS removed,
          (SELECT max(id) FROM page) AS last`,
    )
  }
  const end = await firstYounger(db, payloadsDays, watermark)
  // Primary key of the attempts, with all those of each delivery together. Whether the delivery is still there is not
  // asked: those of deleted webhooks go too.
  const attempts = await walk(
    db,
    signal,
    batch,
    0,
    (after) => sql`
      WITH page AS MATERIALIZED (
        SELECT delivery_id FROM website_worker.webhook_attempts
        WHERE delivery_id > ${after}::int AND delivery_id < ${end}::int ORDER BY delivery_id LIMIT ${batch}),
      gone AS (
        DELETE FROM website_worker.webhook_attempts a
        WHERE a.delivery_id = ANY (ARRAY(SELECT DISTINCT delivery_id FROM page))
          AND a.at < now() - ${payloadsDays} * interval '1 day'
        RETURNING 1)
      SELECT (SELECT count(*) FROM page)::int AS looked, (SELECT count(*) FROM gone)::int AS removed,
        (SELECT max(delivery_id) FROM page) AS last`,
  )
  return { deliveries, attempts }
}
