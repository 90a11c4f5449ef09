import { sql, type SQL } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import type { StagedRange } from './levels.ts'
import { inHalves } from './halves.ts'
import { ints, isAtSite, isNews, stagedOf, texts, toKnown, toRows, type Traversal } from './products-staged.ts'
import type { SyncRun } from './run.ts'

/** How many rows one transaction of the sweep looks at. */
export const sweepSize = 2_000

/** Sets to inactive what tombstones of a range are about. Returns how many rows that were active. */
export function applyTombstones(tx: Tx, run: SyncRun, range: StagedRange): Promise<number> {
  return markGone(
    tx,
    run,
    sql`SELECT p.id, s.version FROM website_worker.sync_staging s ${toRows(run)}
        WHERE ${stagedOf(run, 'tombstone', range)} AND s.refusal IS NULL AND ${isNews}
          AND ep.status IS DISTINCT FROM 'gone'`,
  )
}

/**
 * Rows `p` of products that a complete run has not seen, and that aren't known to be gone: those after `after`. All ids of
 * the site are set against all of the run, and the rest is looked up: erp_ids_site_id_entity_erp_id_pk and the primary keys.
 */
export const unseenRows = (run: SyncRun, { badIds, badSkus }: Traversal, after = 0): SQL => sql`
  (SELECT l.erp_id FROM website_worker.erp_ids l
   WHERE l.site_id = ${run.siteId} AND l.entity = 'product' AND l.row_id > ${after}
   EXCEPT
   SELECT s.erp_id FROM website_worker.sync_staging s WHERE s.run_id = ${run.runId}) u
  JOIN LATERAL (
    SELECT l.erp_id, l.row_id FROM website_worker.erp_ids l
    WHERE l.site_id = ${run.siteId} AND l.entity = 'product' AND l.erp_id = u.erp_id OFFSET 0) l ON true
  JOIN LATERAL (
    SELECT p.* FROM public.website_products p
    WHERE p.id = l.row_id AND ${isAtSite(sql`p`, run)} AND p.deleted_at IS NULL OFFSET 0) p ON true
  ${toKnown}
  WHERE ep.status IS DISTINCT FROM 'gone'
    AND l.erp_id <> ALL (${texts(badIds)}) AND p.sku <> ALL (${texts(badSkus)})`

/**
 * Sets to inactive the rows after `after` that a complete run has not seen, some at a time. Returns how many those are and
 * the last of them, how many were active, and how many the shop lets nobody write.
 */
export async function sweepProducts(
  tx: Tx,
  run: SyncRun,
  view: Traversal,
  after: number,
): Promise<{ seen: number; last: number; deactivated: number; refused: number }> {
  const { rows } = await tx.execute(
    sql`SELECT p.id FROM ${unseenRows(run, view, after)} ORDER BY p.id LIMIT ${sweepSize}`,
  )
  let deactivated = 0
  const found = rows.map((row) => row.id as number)
  const refused = await inHalves(tx, found, async (inner, ids) => {
    deactivated += await markGone(
      inner,
      run,
      sql`SELECT r.id, NULL::numeric AS version FROM unnest(${ints(ids)}) AS r(id)`,
    )
  })
  return { seen: found.length, last: found.at(-1) ?? after, deactivated, refused: refused.length }
}

async function markGone(tx: Tx, { siteId, isFirst }: SyncRun, gone: SQL): Promise<number> {
  // Primary keys. A status that the shop chose itself stays.
  const { rows } = await tx.execute(
    sql`WITH gone AS MATERIALIZED (
          SELECT g.id, coalesce(g.version, ep.version, '-Infinity') AS version, ep.product_id IS NULL AS is_new, p.status AS had_status,
            CASE WHEN coalesce(p.status, 'active') = 'active' OR p.status = ep.shop_status THEN 'inactive' END AS shop_status,
            coalesce(p.status, 'active') <> 'inactive'
              AND (coalesce(p.status, 'active') = 'active' OR p.status = ep.shop_status) AS is_change,
            p.sync_status IS DISTINCT FROM 'synced' AS is_unsynced
          FROM (${gone}) g
          JOIN public.website_products p ON p.id = g.id
          LEFT JOIN website_worker.erp_products ep ON ep.product_id = g.id
        ), updated AS (
          UPDATE public.website_products p
          SET status = CASE WHEN g.is_change AND p.status IS NOT DISTINCT FROM g.had_status THEN 'inactive' ELSE p.status END,
            sync_status = 'synced', last_synced_at = now() AT TIME ZONE 'UTC'
          FROM gone g WHERE p.id = g.id AND (g.is_change OR g.is_unsynced)
        ), learnt AS (
          INSERT INTO website_worker.erp_products (product_id, site_id, version, hashes, status, shop_status, variants)
          SELECT g.id, ${siteId}, g.version, '{}', 'gone', g.shop_status, '{}' FROM gone g WHERE g.is_new
        ), relearnt AS (
          UPDATE website_worker.erp_products ep SET version = g.version, status = 'gone', shop_status = g.shop_status
          FROM gone g WHERE ep.product_id = g.id AND NOT g.is_new
        ), noted AS (
          INSERT INTO website_worker.product_changes (site_id, product_id, changed)
          SELECT ${siteId}, g.id, '{status}' FROM gone g WHERE g.is_change AND NOT ${isFirst})
        SELECT count(*) FILTER (WHERE g.is_change)::int AS deactivated FROM gone g`,
  )
  return rows[0]?.deactivated as number
}
