import { sql } from 'drizzle-orm'
import { transact, type Db } from '../../client.ts'
import { isShopEmpty } from './matching.ts'
import {
  isAtSite,
  isNews,
  isOurs,
  prepareForSets,
  readTraversal,
  rowOf,
  stagedOf,
  toKnown,
  toRows,
} from './products-staged.ts'
import type { Judgement, SyncRun } from './run.ts'
import { unseenRows } from './sweep.ts'

/** Looks at all staged products: which rows would lose their price, or be deactivated? */
export async function judgeProducts(db: Db, run: SyncRun): Promise<Judgement> {
  const { runId, siteId, hasPriceStream } = run
  if (await isShopEmpty(db, run)) return { products: 0, losingPrice: 0, losingStock: 0, deactivated: 0 }
  const view = await readTraversal(db, run)
  const row = sql`SELECT p.id, p.sku, p.price, p.status FROM public.website_products p`
  const isLive = sql`${isAtSite(sql`p`, run)} AND p.deleted_at IS NULL`
  // With a price stream prices are none of this one's business.
  const variants = hasPriceStream ? sql`NULL::jsonb` : sql`CASE WHEN s.doc ? 'skus' THEN s.doc -> 'variants' END`
  // idx_website_products_site_id, primary keys, idx_website_products_sku, website_product_variants_product_id_sku_key.
  // A row is found by its ERP id, else by its number or SKU, as the apply will find it; one that another product of the
  // ERP goes on with isn't lost.
  const { rows } = await transact(db, async (tx) => {
    await prepareForSets(tx)
    return tx.execute(
      sql`WITH staged AS MATERIALIZED (
            SELECT s.sku, s.version, (s.doc ->> 'price')::numeric AS erp_price, s.doc ->> 'status' AS wanted, ${variants} AS variants,
              ${rowOf(run, sql`s.erp_id`)} AS row_id
            FROM website_worker.sync_staging s WHERE ${stagedOf(run, 'product')}
          ), matched AS MATERIALIZED (
            SELECT s.erp_price, s.wanted, s.variants, p.*, ep.status AS erp_status
            FROM staged s JOIN LATERAL (${row} WHERE p.id = s.row_id AND ${isLive} OFFSET 0) p ON true ${toKnown}
            WHERE ${isNews}
            UNION ALL
            SELECT s.erp_price, s.wanted, s.variants, p.*, NULL
            FROM staged s JOIN LATERAL (${row} WHERE p.sku = s.sku AND ${isLive} OFFSET 0) p ON true
            WHERE s.row_id IS NULL
          ), losing AS (
            SELECT m.id FROM matched m WHERE m.price > 0 AND m.erp_price = 0
            UNION
            SELECT m.id FROM matched m
            CROSS JOIN LATERAL jsonb_array_elements(m.variants) AS w(doc)
            JOIN public.website_product_variants v ON v.product_id = m.id AND v.sku = w.doc ->> 'sku'
            WHERE v.price > 0 AND (w.doc ->> 'price')::numeric = 0
          ), deactivated AS (
            SELECT m.sku FROM matched m
            WHERE ${isOurs(run, 'status')} AND coalesce(m.wanted, 'active') <> 'active' AND m.wanted IS DISTINCT FROM m.erp_status
              AND coalesce(m.status, 'active') = 'active'
            UNION
            SELECT p.sku FROM website_worker.sync_staging s ${toRows(run)}
            WHERE ${stagedOf(run, 'tombstone')} AND ${isNews} AND ep.status IS DISTINCT FROM 'gone'
              AND coalesce(p.status, 'active') = 'active'
            UNION
            SELECT p.sku FROM ${unseenRows(run, view)} AND ${view.isComplete} AND coalesce(p.status, 'active') = 'active'
            EXCEPT
            SELECT s.sku FROM website_worker.sync_staging s
            WHERE s.run_id = ${runId} AND s.kind = 'product' AND coalesce(s.doc ->> 'status', 'active') = 'active')
          SELECT (SELECT count(*) FROM public.website_products p WHERE p.site_id = ${siteId} AND p.deleted_at IS NULL)::int AS products,
            CASE WHEN ${hasPriceStream} THEN 0 ELSE (SELECT count(*) FROM losing)::int END AS "losingPrice",
            0 AS "losingStock", (SELECT count(*) FROM deactivated)::int AS deactivated`,
    )
  })
  return rows[0] as unknown as Judgement
}
