import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { compare, type Drift } from './audit.ts'
import { stagedBetween } from './levels.ts'
import type { SyncRun } from './run.ts'
import { levelled } from './stock-judgement.ts'
import { reservedMap } from './stock.ts'

/** Compares what a run has staged of stock, less what is reserved, with the variants of those SKUs. */
export function auditStock(db: Db, run: SyncRun): Promise<Drift> {
  // idx_website_products_site_id and idx_website_product_variants_product_id for the count.
  return compare(
    db,
    sql`reserved AS MATERIALIZED (${reservedMap(run)}),
        pairs AS MATERIALIZED (
          SELECT ROW(l.sku, l.should) AS erp, ROW(l.sku, l.shows) AS shop FROM (${levelled(run)}) l)`,
    {
      erp: sql`SELECT count(*) FROM ${stagedBetween(run, 'level')}`,
      shop: sql`SELECT count(*) FROM public.website_product_variants v
        JOIN public.website_products p ON p.id = v.product_id AND p.site_id = ${run.siteId} AND p.deleted_at IS NULL`,
    },
  )
}
