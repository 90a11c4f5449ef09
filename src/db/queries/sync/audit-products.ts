import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { compare, type Drift } from './audit.ts'
import { isAtSite, isNews, readTraversal, rowOf, stagedOf, toKnown } from './products-staged.ts'
import type { SyncRun } from './run.ts'
import { unseenRows } from './sweep.ts'

/**
 * Compares what a run has staged of products with their rows: SKU, cost, weight and, where they come with the products,
 * prices; of what the shop may edit, what the ERP said of it last. What the shop has deleted isn't compared.
 */
export async function auditProducts(db: Db, run: SyncRun): Promise<Drift> {
  const view = await readTraversal(db, run)
  const price = run.hasPriceStream ? sql`NULL::numeric` : sql`d.price`
  const shown = run.hasPriceStream ? sql`NULL::numeric` : sql`p.price`
  // Primary key of staging; primary keys of erp_ids, website_products and erp_products for the rows.
  return compare(
    db,
    sql`pairs AS MATERIALIZED (
          SELECT s.n::bigint AS place,
            ROW(s.sku, ${price}, md5(d.name), coalesce(d.status, 'active'),
              CASE WHEN s.doc ? 'cost' THEN d.cost ELSE p.cost END,
              CASE WHEN s.doc ? 'weight' THEN d.weight ELSE p.weight END) AS erp,
            CASE WHEN p.id IS NOT NULL THEN ROW(p.sku::text, ${shown}, ep.hashes ->> 'name', ep.status, p.cost, p.weight) END AS shop
          FROM website_worker.sync_staging s
          CROSS JOIN LATERAL jsonb_to_record(s.doc) AS d(
            name text, price numeric(10, 2), status text, cost numeric(10, 2), weight numeric(10, 2))
          LEFT JOIN LATERAL (
            SELECT p.id, p.sku, p.price, p.cost, p.weight, p.deleted_at FROM public.website_products p
            WHERE p.id = ${rowOf(run, sql`s.erp_id`)} AND ${isAtSite(sql`p`, run)} OFFSET 0) p ON true
          ${toKnown}
          WHERE ${stagedOf(run, 'product')} AND s.refusal IS DISTINCT FROM '' AND p.deleted_at IS NULL AND ${isNews}
          UNION ALL
          SELECT 2147483648 + p.id, NULL, ROW(p.sku::text, ${shown}, ep.hashes ->> 'name', ep.status, p.cost, p.weight)
          FROM ${unseenRows(run, view)} AND ${view.isComplete})`,
    {
      erp: sql`SELECT count(*) FROM website_worker.sync_staging s WHERE ${stagedOf(run, 'product')}`,
      shop: sql`SELECT count(*) FROM public.website_products p WHERE p.site_id = ${run.siteId} AND p.deleted_at IS NULL`,
    },
  )
}
