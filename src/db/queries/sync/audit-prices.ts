import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { compare, type Drift } from './audit.ts'
import { stagedBetween } from './levels.ts'
import { ownPrice } from './prices.ts'
import { priced } from './prices-judgement.ts'
import type { SyncRun } from './run.ts'

/** Compares what a run has staged of prices with the products and variants that have a price of their own. */
export function auditPrices(db: Db, run: SyncRun): Promise<Drift> {
  const live = sql`p.site_id = ${run.siteId} AND p.deleted_at IS NULL`
  // idx_website_products_site_id and idx_website_product_variants_product_id for the counts.
  return compare(
    db,
    sql`pairs AS MATERIALIZED (
          SELECT ROW(c.sku, c.should, c.should_compare) AS erp,
            ROW(c.sku, c.price, c.compare) AS shop
          FROM (${priced(run)}) c)`,
    {
      erp: sql`SELECT count(*) FROM ${stagedBetween(run, 'price')}`,
      shop: sql`(SELECT count(*) FROM public.website_products p WHERE ${live})
        + (SELECT count(*) FROM public.website_product_variants t
           JOIN public.website_products p ON p.id = t.product_id AND ${live} WHERE ${ownPrice})`,
    },
  )
}
