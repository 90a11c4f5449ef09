import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { compare, type Drift } from './audit.ts'
import { isNews, readTraversal, stagedOf } from './products-staged.ts'
import type { SyncRun } from './run.ts'
import { unseenRows } from './sweep.ts'

/**
 * Compares what a run has staged of products with their rows: SKU, cost, weight and, where they come with the products,
 * prices; of what the shop may edit, what the ERP said of it last. What the shop has deleted isn't compared.
 */
export async function auditProducts(db: Db, run: SyncRun): Promise<Drift> {
  const view = await readTraversal(db, run)
  const price = run.hasPriceStream ? sql`NULL::numeric` : sql`(s.doc ->> 'price')::numeric(10, 2)`
  const shown = run.hasPriceStream ? sql`NULL::numeric` : sql`p.price`
  const own = (field: string) =>
    sql.raw(`CASE WHEN s.doc ? '${field}' THEN (s.doc ->> '${field}')::numeric(10, 2) ELSE p.${field} END`)
  const shop = sql`ROW(p.sku::text, ${shown}, ep.hashes ->> 'name', ep.status, p.cost, p.weight)`
  // All of the site beside all of the run: primary key of staging, erp_ids_site_id_entity_erp_id_pk,
  // idx_website_products_site_id and erp_products_site.
  return compare(
    db,
    sql`pairs AS MATERIALIZED (
          SELECT ROW(s.sku, ${price}, md5(s.doc ->> 'name'), coalesce(s.doc ->> 'status', 'active'), ${own('cost')}, ${own('weight')}) AS erp,
            CASE WHEN p.id IS NOT NULL THEN ${shop} END AS shop
          FROM website_worker.sync_staging s
          LEFT JOIN website_worker.erp_ids l ON l.site_id = ${run.siteId} AND l.entity = 'product' AND l.erp_id = s.erp_id
          LEFT JOIN public.website_products p ON p.site_id = ${run.siteId} AND p.id = l.row_id
          LEFT JOIN website_worker.erp_products ep ON ep.site_id = ${run.siteId} AND ep.product_id = p.id
          WHERE ${stagedOf(run, 'product')} AND s.refusal IS DISTINCT FROM '' AND p.deleted_at IS NULL AND ${isNews}
          UNION ALL
          SELECT NULL, ${shop} FROM ${unseenRows(run, view)} AND ${view.isComplete})`,
    {
      erp: sql`SELECT count(*) FROM website_worker.sync_staging s WHERE ${stagedOf(run, 'product')}`,
      shop: sql`SELECT count(*) FROM public.website_products p WHERE p.site_id = ${run.siteId} AND p.deleted_at IS NULL`,
    },
    { isWhole: true },
  )
}
