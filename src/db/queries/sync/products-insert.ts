import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import type { StagedRange } from './levels.ts'
import { chooseSlugs, slugCandidates, type Named } from './products-slug.ts'
import { ints, isOurs, rowOf, stagedOf, texts } from './products-staged.ts'
import type { SyncRun } from './run.ts'

/** Makes rows of the staged products that have none. Returns how many; a SKU that someone else took meanwhile is left out. */
export async function insertProducts(tx: Tx, run: SyncRun, range: StagedRange): Promise<number> {
  const { runId, siteId, hasPriceStream } = run
  // Primary keys of staging and erp_ids.
  const { rows: found } = await tx.execute(
    sql`SELECT s.n, s.erp_id AS "erpId", s.sku, s.doc ->> 'name' AS name FROM website_worker.sync_staging s
        WHERE ${stagedOf(run, 'product', range)} AND s.refusal IS NULL AND ${rowOf(run, sql`s.erp_id`)} IS NULL
        ORDER BY s.n`,
  )
  if (found.length === 0) return 0
  const products = found as unknown as Named[]
  const slugs = chooseSlugs(products, await readTakenSlugs(tx, siteId, products))
  const ours = (field: string, value: string, otherwise = 'NULL') => sql.raw(isOurs(run, field) ? value : otherwise)
  // Primary keys of staging and erp_prices. No id is drawn for what isn't inserted.
  const { rowCount } = await tx.execute(
    sql`INSERT INTO public.website_products
          (site_id, erp_product_id, sku, name, description, short_description, price, compare_at_price, cost, status, weight,
           dimensions, attributes, images, seo_slug, sync_status, last_synced_at, created_at, updated_at)
        SELECT ${siteId}, ${erpNumber}, s.sku, d.name, ${ours('description', 'd.description')},
          ${ours('shortDescription', 'd."shortDescription"')}, coalesce(e.price, d.price),
          CASE WHEN e.says_compare_at THEN e.compare_at_price ELSE d."compareAtPrice" END, ${ours('cost', 'd.cost')},
          ${ours('status', "coalesce(d.status, 'active')", "'active'")}, ${ours('weight', 'd.weight')},
          ${ours('dimensions', 'd.dimensions')}, coalesce(${ours('attributes', 'd.attributes')}, '{}'::jsonb),
          coalesce(${ours('images', 'd.images')}, '[]'::jsonb), r.slug, 'synced', t.now, t.now, t.now
        FROM unnest(${ints(products.map(({ n }) => n))}, ${texts(slugs)}) AS r(n, slug)
        JOIN website_worker.sync_staging s ON s.run_id = ${runId} AND s.n = r.n
        CROSS JOIN LATERAL ${asProduct}
        CROSS JOIN (SELECT now() AT TIME ZONE 'UTC') AS t(now)
        LEFT JOIN LATERAL (
          SELECT e.* FROM website_worker.erp_prices e
          WHERE ${hasPriceStream} AND e.site_id = ${siteId} AND e.sku = s.sku OFFSET 0) e ON true
        ORDER BY r.n
        ON CONFLICT (site_id, sku) DO NOTHING`,
  )
  return rowCount ?? 0
}

/** The ERP's id as INTEGER, where it is one. */
export const erpNumber = sql`
  CASE WHEN s.erp_id ~ '^[1-9][0-9]{0,9}$' THEN CASE WHEN s.erp_id::bigint <= 2147483647 THEN s.erp_id::int END END`

/** The staged product `s`, field by field. */
export const asProduct = sql`jsonb_to_record(s.doc) AS d(
  name text, description text, "shortDescription" text, price numeric(10, 2), "compareAtPrice" numeric(10, 2),
  cost numeric(10, 2), status text, weight numeric(10, 2), dimensions jsonb, attributes jsonb, images jsonb,
  categories text[])`

async function readTakenSlugs(tx: Tx, siteId: number, products: readonly Named[]): Promise<Set<string>> {
  const candidates = [...new Set(products.flatMap(slugCandidates))]
  // idx_website_products_site_id_seo_slug.
  const { rows } = await tx.execute(
    sql`SELECT p.seo_slug AS slug FROM public.website_products p
        JOIN unnest(${texts(candidates)}) AS c(slug) ON p.seo_slug = c.slug WHERE p.site_id = ${siteId}`,
  )
  return new Set(rows.map((row) => row.slug as string))
}
