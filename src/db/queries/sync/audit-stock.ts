import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { compare, type Drift } from './audit.ts'
import type { SyncRun } from './run.ts'
import { lastLevels } from './stock-judgement.ts'
import { lessReserved, reservedUnits, soldAt } from './stock.ts'

/** Compares what a run has staged of stock, less what is reserved, with the variants of those SKUs. */
export function auditStock(db: Db, run: SyncRun): Promise<Drift> {
  const sold = soldAt(run.siteId)
  // Primary keys of staging and erp_stock, idx_website_product_variants_sku, primary key of products;
  // idx_website_products_site_id and idx_website_product_variants_product_id for the count.
  return compare(
    db,
    sql`reserved AS MATERIALIZED (${reservedUnits(run)}),
        said AS MATERIALIZED (${lastLevels(run)}),
        pairs AS MATERIALIZED (
          SELECT v.id AS place, ROW(said.sku, ${lessReserved(sql`said.quantity`, sql`r.units`)}) AS erp,
            ROW(v.sku::text, v.inventory_quantity) AS shop
          FROM said JOIN public.website_product_variants v ON v.sku = said.sku ${sold}
          LEFT JOIN reserved r ON r.sku = said.sku)`,
    {
      erp: sql`SELECT count(*) FROM said`,
      shop: sql`SELECT count(*) FROM public.website_product_variants v ${sold}`,
    },
  )
}
