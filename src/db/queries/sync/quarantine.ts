import { sql, type SQL } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { inHalves } from './halves.ts'
import { ints, isAtSite, isStagedAs, rowOf } from './products-staged.ts'
import type { SyncRun } from './run.ts'

/**
 * Bad records of a run, each once: those that came bad, and those that can't be applied. What tells them apart is the ERP's
 * id, else the SKU, else what they say.
 */
const badRecords = ({ runId }: Pick<SyncRun, 'runId'>): SQL => sql`
  SELECT DISTINCT ON (r.entity, r.key) r.* FROM (
    SELECT s.n, s.doc ->> 'entity' AS entity, s.doc ->> 'erpId' AS erp_id, s.sku, s.doc ->> 'reason' AS reason,
      s.doc -> 'snapshot' AS snapshot,
      CASE WHEN s.doc ->> 'entity' = 'variant' AND s.doc ->> 'erpId' IS NOT NULL
             THEN 'id:' || (s.doc ->> 'erpId') || ':' || coalesce(s.sku, md5(coalesce(s.doc ->> 'snapshot', '')))
           ELSE coalesce('id:' || (s.doc ->> 'erpId'), 'sku:' || s.sku, 'hash:' || md5(coalesce(s.doc ->> 'snapshot', ''))) END
        AS key
    FROM website_worker.sync_staging s WHERE s.run_id = ${runId} AND s.kind = 'reject'
    UNION ALL
    SELECT s.n, 'product', s.erp_id, s.sku, s.refusal,
      jsonb_build_object('id', s.erp_id, 'sku', s.sku, 'name', s.doc -> 'name', 'price', s.doc -> 'price', 'version', s.version),
      'id:' || s.erp_id
    FROM website_worker.sync_staging s
    WHERE s.run_id = ${runId} AND s.kind IN ('product', 'tombstone') AND s.refusal <> '') r
  ORDER BY r.entity, r.key, r.n`

/** The row `p` of the shop that a bad record is about: that of its id, else the one of its SKU, if it has no other id. */
const sellsIt = (siteId: number, record: SQL): SQL => sql`
  LEFT JOIN LATERAL (
    SELECT p.* FROM public.website_products p
    WHERE ${isAtSite(sql`p`, { siteId })} AND p.id = coalesce(${rowOf({ siteId }, sql`${record}.erp_id`)}, (
      SELECT same.id FROM public.website_products same
      WHERE ${isAtSite(sql`same`, { siteId })} AND same.sku = ${record}.sku
        AND (${record}.erp_id IS NULL OR (
          SELECT o.row_id FROM website_worker.erp_ids o WHERE o.entity = 'product' AND o.row_id = same.id) IS NULL)))
    OFFSET 0) p ON true`

/** How many records one transaction writes. */
export const quarantineBatch = 2_000

/** How many bad records a run has. */
export async function countBad(tx: Tx, run: SyncRun): Promise<number> {
  // Primary key of staging.
  const { rows } = await tx.execute(sql`SELECT count(*)::int AS bad FROM (${badRecords(run)}) b`)
  return rows[0]?.bad as number
}

/**
 * Writes one part of a run's bad records down: in quarantine, in the log and at the product's row. A record that is as bad
 * as it was is only seen again, once a day. Returns how many are new, or bad in another way.
 */
export async function quarantine(tx: Tx, run: SyncRun, part: number, parts: number): Promise<number> {
  const { siteId } = run
  // Primary key of staging, sync_quarantine_open, keys of erp_ids, idx_website_products_sku, primary keys,
  // website_product_variants_product_id_sku_key. Numbers of log rows are drawn only for what is written.
  const { rows } = await tx.execute(
    sql`WITH bad AS MATERIALIZED (
          SELECT b.*, o.id AS open_id, o.last_seen_at < now() - interval '1 day' AS is_old,
            o.id IS NULL OR (o.reason, o.snapshot) IS DISTINCT FROM (b.reason, b.snapshot) AS is_other,
            p.id AS product_id, p.sync_status, p.deleted_at,
            CASE WHEN b.entity = 'variant' THEN v.id ELSE p.id END AS row_id,
            EXISTS (
              SELECT FROM website_worker.erp_ids l JOIN website_worker.sync_staging s ON ${isStagedAs(run, sql`s`, sql`l.erp_id`)}
              WHERE l.entity = 'product' AND l.row_id = p.id AND s.kind = 'product' AND s.refusal IS NULL) AS is_also_good
          FROM (${badRecords(run)}) b
          LEFT JOIN website_worker.sync_quarantine o ON o.site_id = ${siteId} AND o.type = ${run.type} AND o.entity = b.entity
            AND o.key = b.key AND o.resolved_at IS NULL
          ${sellsIt(siteId, sql`b`)}
          LEFT JOIN public.website_product_variants v ON v.product_id = p.id AND v.sku = b.sku
          WHERE mod(abs(hashtext(b.key)::bigint), ${parts}) = ${part}
        ), logged AS MATERIALIZED (
          SELECT b.*, nextval(pg_get_serial_sequence('public.website_sync_logs', 'id'))::int AS log_id
          FROM (SELECT * FROM bad WHERE bad.is_other ORDER BY bad.n) b
        ), logs AS (
          INSERT INTO public.website_sync_logs
            (id, site_id, sync_type, entity_type, entity_id, status, error_message, data_snapshot, created_at)
          SELECT b.log_id, ${siteId}, ${run.type}, b.entity, b.row_id, 'error', b.reason, b.snapshot, now() AT TIME ZONE 'UTC'
          FROM logged b
        ), opened AS (
          INSERT INTO website_worker.sync_quarantine (site_id, type, entity, key, erp_id, sku, reason, snapshot, log_id)
          SELECT ${siteId}, ${run.type}, b.entity, b.key, b.erp_id, b.sku, b.reason, b.snapshot, b.log_id
          FROM logged b WHERE b.open_id IS NULL ORDER BY b.n
        ), changed AS (
          UPDATE website_worker.sync_quarantine o SET erp_id = b.erp_id, sku = b.sku, reason = b.reason,
            snapshot = b.snapshot, log_id = b.log_id, last_seen_at = now()
          FROM logged b WHERE o.id = b.open_id
        ), seen AS (
          UPDATE website_worker.sync_quarantine o SET last_seen_at = now()
          FROM bad b WHERE o.id = b.open_id AND b.is_old AND NOT b.is_other
        )
        SELECT (SELECT count(*) FROM logged)::int AS quarantined, ARRAY(
          SELECT DISTINCT b.product_id FROM bad b WHERE b.entity = 'product' AND NOT b.is_also_good
            AND b.sync_status IS DISTINCT FROM 'error' AND b.product_id IS NOT NULL AND b.deleted_at IS NULL) AS ids`,
  )
  const { quarantined, ids } = rows[0] as { quarantined: number; ids: number[] }
  await mark(tx, ids, 'error')
  return quarantined
}

// What is bad about a row may be that the shop lets nobody write it.
async function mark(tx: Tx, productIds: readonly number[], status: 'error' | 'synced'): Promise<void> {
  // Primary key.
  await inHalves(tx, productIds, (inner, ids) =>
    inner.execute(sql`UPDATE public.website_products p SET sync_status = ${status} WHERE p.id = ANY (${ints(ids)})`),
  )
}

/**
 * Lets go of what is well again: what came good, and, of a run that has read everything, what didn't come at all. Returns
 * how many.
 */
export async function resolveQuarantine(tx: Tx, run: SyncRun): Promise<number> {
  const { runId, siteId } = run
  const isSeen = sql`
    EXISTS (SELECT FROM website_worker.sync_staging s
            WHERE ${isStagedAs(run, sql`s`, sql`o.erp_id`)} AND s.kind IN ('product', 'tombstone') AND s.refusal IS NULL)
    OR o.erp_id IS NULL AND o.sku IN (
      SELECT s.sku FROM website_worker.sync_staging s
      WHERE s.run_id = ${runId} AND s.kind IN ('product', 'level', 'price') AND s.refusal IS NULL)`
  // sync_quarantine_open, sync_staging_erp_id; idx_website_products_sku and erp_ids for the rows.
  const { rows } = await tx.execute(
    sql`WITH well AS (
          UPDATE website_worker.sync_quarantine o SET resolved_at = now()
          WHERE o.site_id = ${siteId} AND o.type = ${run.type} AND o.resolved_at IS NULL
            AND (${run.mode === 'full' ? sql`true` : isSeen})
            AND (o.entity, o.key) NOT IN (SELECT b.entity, b.key FROM (${badRecords(run)}) b)
          RETURNING o.entity, o.erp_id, o.sku)
        SELECT (SELECT count(*) FROM well)::int AS resolved, ARRAY(
          SELECT DISTINCT p.id FROM well w ${sellsIt(siteId, sql`w`)}
          WHERE w.entity = 'product' AND p.sync_status = 'error' AND p.deleted_at IS NULL AND NOT EXISTS (
            SELECT FROM website_worker.sync_quarantine other
            WHERE other.site_id = ${siteId} AND other.type <> ${run.type} AND other.entity = 'product'
              AND other.resolved_at IS NULL AND (other.sku = p.sku OR other.erp_id = w.erp_id))) AS ids`,
  )
  const { resolved, ids } = rows[0] as { resolved: number; ids: number[] }
  await mark(tx, ids, 'synced')
  return resolved
}
