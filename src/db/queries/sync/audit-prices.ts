import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { compare, type Drift } from './audit.ts'
import { ownPrice } from './prices.ts'
import { lastPrices } from './prices-judgement.ts'
import type { SyncRun } from './run.ts'

/** Compares what a run has staged of prices with the products and variants that have a price of their own. */
export function auditPrices(db: Db, run: SyncRun): Promise<Drift> {
  const { siteId } = run
  const erp = sql`ROW(said.sku, said.price, CASE WHEN said.says THEN said.compare END)`
  const shop = sql`ROW(t.sku::text, t.price, CASE WHEN said.says THEN t.compare_at_price END)`
  const product = sql`p.id = t.product_id AND p.site_id = ${siteId} AND p.deleted_at IS NULL`
  // Primary keys of staging and erp_prices, website_products_site_id_sku_key, idx_website_product_variants_sku and primary
  // key of products; idx_website_products_site_id and idx_website_product_variants_product_id for the counts.
  return compare(
    db,
    sql`said AS MATERIALIZED (${lastPrices(run)}),
        pairs AS MATERIALIZED (
          SELECT ARRAY[0, t.id] AS place, ${erp} AS erp, ${shop} AS shop
          FROM said JOIN public.website_products t ON t.site_id = ${siteId} AND t.sku = said.sku AND t.deleted_at IS NULL
          UNION ALL
          SELECT ARRAY[1, t.id], ${erp}, ${shop}
          FROM said JOIN public.website_product_variants t ON t.sku = said.sku JOIN public.website_products p ON ${product}
          WHERE ${ownPrice})`,
    {
      erp: sql`SELECT count(*) FROM said`,
      shop: sql`(SELECT count(*) FROM public.website_products t WHERE t.site_id = ${siteId} AND t.deleted_at IS NULL)
        + (SELECT count(*) FROM public.website_product_variants t JOIN public.website_products p ON ${product}
           WHERE ${ownPrice})`,
    },
  )
}
