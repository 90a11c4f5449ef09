import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { stagedBetween } from './levels.ts'
import type { Judgement, SyncRun } from './run.ts'
import { lessReserved, reservedUnits, soldAt } from './stock.ts'

/** What the ERP says of each SKU of a run, unless something newer is known: `sku`, `quantity`. */
export const lastLevels = (run: Pick<SyncRun, 'runId' | 'siteId'>): SQL => sql`
  SELECT l.sku, CASE WHEN s.version > l.version THEN s.quantity ELSE l.quantity END AS quantity
  FROM ${stagedBetween(run, 'level')}
  LEFT JOIN website_worker.erp_stock s ON s.site_id = ${run.siteId} AND s.sku = l.sku`

/** How many products of the site are in stock now and would no longer be. */
export async function judgeStock(db: Db, run: SyncRun): Promise<Judgement> {
  const { siteId } = run
  // Primary keys of staging and erp_stock; idx_website_product_variants_sku and _product_id, primary key and
  // idx_website_products_site_id of products.
  const { rows } = await db.execute(
    sql`WITH reserved AS MATERIALIZED (${reservedUnits(run)}),
        said AS MATERIALIZED (${lastLevels(run)}),
        emptied AS MATERIALIZED (
          SELECT DISTINCT v.product_id
          FROM said JOIN public.website_product_variants v ON v.sku = said.sku ${soldAt(siteId)}
          LEFT JOIN reserved r ON r.sku = said.sku
          WHERE v.inventory_quantity > 0 AND ${lessReserved(sql`said.quantity`, sql`r.units`)} <= 0),
        losing AS (
          SELECT v.product_id FROM public.website_product_variants v
          LEFT JOIN said ON said.sku = v.sku
            AND NOT EXISTS (SELECT FROM website_worker.retired_variants t WHERE t.variant_id = v.id)
          LEFT JOIN reserved r ON r.sku = said.sku
          WHERE v.product_id IN (SELECT e.product_id FROM emptied e)
          GROUP BY v.product_id
          HAVING max(CASE WHEN said.sku IS NULL THEN v.inventory_quantity
            ELSE ${lessReserved(sql`said.quantity`, sql`r.units`)} END) <= 0)
        SELECT (SELECT count(*) FROM public.website_products p
                WHERE p.site_id = ${siteId} AND p.deleted_at IS NULL)::int AS products,
          (SELECT count(*) FROM losing)::int AS "losingStock"`,
  )
  const { products, losingStock } = rows[0] as { products: number; losingStock: number }
  return { products, losingStock, losingPrice: 0, deactivated: 0 }
}
