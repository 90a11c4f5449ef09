import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { isRetired, liveProductAt, variantsOf } from './catalog-rows.ts'
import { stagedBetween } from './levels.ts'
import type { Judgement, SyncRun } from './run.ts'
import { lessReserved, reservedMap } from './stock.ts'

/**
 * The variants `t` that a run has levels for, and what they should show if nothing newer is known: `id`, `product_id`,
 * `sku`, `shows`, `should`. Needs a CTE `reserved`. Primary keys of staging, erp_stock and products,
 * idx_website_product_variants_sku.
 */
export const levelled = (run: Pick<SyncRun, 'runId' | 'siteId'>): SQL => sql`
  SELECT t.id, t.product_id, t.sku, t.inventory_quantity AS shows,
    ${lessReserved(sql`CASE WHEN s.version > l.version THEN s.quantity ELSE l.quantity END`, sql`l.sku`)} AS should
  FROM ${stagedBetween(run, 'level')}
  LEFT JOIN LATERAL (
    SELECT s.version, s.quantity FROM website_worker.erp_stock s
    WHERE s.site_id = ${run.siteId} AND s.sku = l.sku OFFSET 0) s ON true
  ${variantsOf(sql`l.sku`)} ${liveProductAt(run.siteId)}
  WHERE NOT ${isRetired}`

/** How many products of the site are in stock now and would no longer be. */
export async function judgeStock(db: Db, run: SyncRun): Promise<Judgement> {
  // A product loses its stock if all of its variants that have some are among those that are to have none.
  // Besides: idx_website_product_variants_product_id, idx_website_products_site_id.
  const { rows } = await db.execute(
    sql`WITH reserved AS MATERIALIZED (${reservedMap(run)}),
        touched AS MATERIALIZED (
          SELECT l.product_id, count(*) FILTER (WHERE l.shows > 0) AS had FROM (${levelled(run)}) l
          GROUP BY l.product_id HAVING bool_or(l.shows > 0) AND NOT bool_or(l.should > 0))
        SELECT (SELECT count(*) FROM public.website_products p
                WHERE p.site_id = ${run.siteId} AND p.deleted_at IS NULL)::int AS products,
          (SELECT count(*) FROM touched WHERE touched.had = (
            SELECT count(*) FROM public.website_product_variants v
            WHERE v.product_id = touched.product_id AND v.inventory_quantity > 0))::int AS "losingStock"`,
  )
  const { products, losingStock } = rows[0] as { products: number; losingStock: number }
  return { products, losingStock, losingPrice: 0, deactivated: 0 }
}
