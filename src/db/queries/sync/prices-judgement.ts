import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { stagedBetween } from './levels.ts'
import { ownPrice } from './prices.ts'
import type { Judgement, SyncRun } from './run.ts'

/**
 * What the ERP says of each SKU of a run, unless something newer is known: `sku`, `price`, `compare`, and whether it spoke
 * of that: `says`.
 */
export const lastPrices = (run: Pick<SyncRun, 'runId' | 'siteId'>): SQL => sql`
  SELECT l.sku, CASE WHEN e.version > l.version THEN e.price ELSE l.price END AS price,
    CASE WHEN e.version > l.version OR l.doc IS NULL THEN e.compare_at_price ELSE l.compare_at_price END AS compare,
    CASE WHEN e.version > l.version OR l.doc IS NULL THEN coalesce(e.says_compare_at, false) ELSE true END AS says
  FROM ${stagedBetween(run, 'price')}
  LEFT JOIN website_worker.erp_prices e ON e.site_id = ${run.siteId} AND e.sku = l.sku`

/** How many products of the site have a price now, or a variant that has, and would cost nothing. */
export async function judgePrices(db: Db, run: SyncRun): Promise<Judgement> {
  const { siteId } = run
  // Primary keys of staging and erp_prices; website_products_site_id_sku_key, idx_website_product_variants_sku, primary key
  // and idx_website_products_site_id of products.
  const { rows } = await db.execute(
    sql`WITH free AS MATERIALIZED (SELECT said.sku FROM (${lastPrices(run)}) said WHERE said.price = 0),
        losing AS (
          SELECT p.id FROM free JOIN public.website_products p
            ON p.site_id = ${siteId} AND p.sku = free.sku AND p.deleted_at IS NULL AND p.price > 0
          UNION
          SELECT p.id FROM free
          JOIN public.website_product_variants t ON t.sku = free.sku AND t.price > 0
          JOIN public.website_products p ON p.id = t.product_id AND p.site_id = ${siteId} AND p.deleted_at IS NULL
          WHERE ${ownPrice})
        SELECT (SELECT count(*) FROM public.website_products p
                WHERE p.site_id = ${siteId} AND p.deleted_at IS NULL)::int AS products,
          (SELECT count(*) FROM losing)::int AS "losingPrice"`,
  )
  const { products, losingPrice } = rows[0] as { products: number; losingPrice: number }
  return { products, losingPrice, losingStock: 0, deactivated: 0 }
}
