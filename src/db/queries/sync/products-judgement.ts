import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { isAtSite, isNews, isOurs, readTraversal, rowOf, stagedOf, toRows } from './products-staged.ts'
import type { Judgement, SyncRun } from './run.ts'
import { unseenRows } from './sweep.ts'

/** Looks at all staged products: which rows would lose their price, or be deactivated? */
export async function judgeProducts(db: Db, run: SyncRun): Promise<Judgement> {
  const { runId, siteId, hasPriceStream } = run
  const view = await readTraversal(db, run)
  const toNamesake = sql`
    JOIN LATERAL (
      SELECT p.id, p.price, p.status, p.deleted_at FROM public.website_products p
      WHERE ${isAtSite(sql`p`, run)} AND p.sku = s.sku OFFSET 0) p ON true`
  // idx_website_products_site_id, primary keys, idx_website_products_sku, website_product_variants_product_id_sku_key.
  // A row is found by its ERP id, else by its number or SKU, as the apply will find it; one that another product of the
  // ERP goes on with isn't lost.
  const { rows } = await db.execute(
    sql`WITH matched AS MATERIALIZED (
          SELECT s.doc, p.id, p.price, p.status, ep.status AS erp_status, ep.shop_status
          FROM website_worker.sync_staging s ${toRows(run)}
          WHERE ${stagedOf(run, 'product')} AND ${isNews}
          UNION ALL
          SELECT s.doc, p.id, p.price, p.status, NULL, NULL
          FROM website_worker.sync_staging s
          ${toNamesake} WHERE ${stagedOf(run, 'product')} AND p.deleted_at IS NULL AND ${rowOf(run, sql`s.erp_id`)} IS NULL
        ), losing AS (
          SELECT m.id FROM matched m WHERE m.price > 0 AND (m.doc ->> 'price')::numeric = 0
          UNION
          SELECT m.id FROM matched m
          CROSS JOIN LATERAL jsonb_array_elements(m.doc -> 'variants') AS w(doc)
          JOIN public.website_product_variants v ON v.product_id = m.id AND v.sku = w.doc ->> 'sku'
          WHERE m.doc ? 'skus' AND v.price > 0 AND (w.doc ->> 'price')::numeric = 0
        ), deactivated AS (
          SELECT m.id FROM matched m
          WHERE ${isOurs(run, 'status')} AND coalesce(m.doc ->> 'status', 'active') <> 'active' AND m.doc ->> 'status' IS DISTINCT FROM m.erp_status
            AND coalesce(m.status, 'active') = 'active'
          UNION
          SELECT p.id FROM website_worker.sync_staging s ${toRows(run)}
          WHERE ${stagedOf(run, 'tombstone')} AND ${isNews} AND ep.status IS DISTINCT FROM 'gone'
            AND coalesce(p.status, 'active') = 'active'
          UNION
          SELECT p.id FROM ${unseenRows(run, view)} AND ${view.isComplete} AND coalesce(p.status, 'active') = 'active'
          EXCEPT
          SELECT p.id FROM website_worker.sync_staging s
          ${toNamesake} WHERE s.run_id = ${runId} AND s.kind = 'product' AND coalesce(s.doc ->> 'status', 'active') = 'active')
        SELECT (SELECT count(*) FROM public.website_products p WHERE p.site_id = ${siteId} AND p.deleted_at IS NULL)::int AS products,
          CASE WHEN ${hasPriceStream} THEN 0 ELSE (SELECT count(*) FROM losing)::int END AS "losingPrice",
          0 AS "losingStock", (SELECT count(*) FROM deactivated)::int AS deactivated`,
  )
  return rows[0] as unknown as Judgement
}
