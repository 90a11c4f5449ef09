import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { liveProductAt, productOf, variantsOf } from './catalog-rows.ts'
import { stagedBetween } from './levels.ts'
import { ownPrice } from './prices.ts'
import type { Judgement, SyncRun } from './run.ts'

/**
 * The products (`is_variant` false) and variants that a run has prices for, and what they should cost if nothing newer is
 * known: `id`, `product_id`, `sku`, `price`, `compare`, `should`, `should_compare`; the compare-at prices are null where the
 * ERP is silent about them. Primary keys of staging and erp_prices, idx_website_products_sku,
 * idx_website_product_variants_sku.
 */
export function priced(run: Pick<SyncRun, 'runId' | 'siteId'>): SQL {
  const { siteId } = run
  const said = sql`(
    SELECT l.sku, CASE WHEN e.version > l.version THEN e.price ELSE l.price END AS price,
      CASE WHEN e.version > l.version OR l.doc IS NULL THEN e.compare_at_price ELSE l.compare_at_price END AS compare,
      CASE WHEN e.version > l.version OR l.doc IS NULL THEN coalesce(e.says_compare_at, false) ELSE true END AS says
    FROM ${stagedBetween(run, 'price')}
    LEFT JOIN LATERAL (
      SELECT e.* FROM website_worker.erp_prices e WHERE e.site_id = ${siteId} AND e.sku = l.sku OFFSET 0) e ON true
    OFFSET 0) said`
  const columns = sql`t.sku, t.price, CASE WHEN said.says THEN t.compare_at_price END AS compare,
    said.price AS should, CASE WHEN said.says THEN said.compare END AS should_compare`
  return sql`
    SELECT false AS is_variant, t.id, t.id AS product_id, ${columns} FROM ${said} ${productOf(siteId, sql`said.sku`)}
    UNION ALL
    SELECT true, t.id, t.product_id, ${columns} FROM ${said} ${variantsOf(sql`said.sku`)} ${liveProductAt(siteId)}
    WHERE ${ownPrice}`
}

/** How many products of the site have a price now, or a variant that has, and would cost nothing. */
export async function judgePrices(db: Db, run: SyncRun): Promise<Judgement> {
  // Besides: idx_website_products_site_id.
  const { rows } = await db.execute(
    sql`SELECT (SELECT count(*) FROM public.website_products p
                WHERE p.site_id = ${run.siteId} AND p.deleted_at IS NULL)::int AS products,
          (SELECT count(DISTINCT c.product_id) FROM (${priced(run)}) c
           WHERE c.should = 0 AND c.price > 0)::int AS "losingPrice"`,
  )
  const { products, losingPrice } = rows[0] as { products: number; losingPrice: number }
  return { products, losingPrice, losingStock: 0, deactivated: 0 }
}
