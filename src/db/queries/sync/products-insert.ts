import { sql, type SQL } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { categoryOf } from './categories.ts'
import type { StagedRange } from './levels.ts'
import {
  asProduct,
  erpNumber,
  hashes,
  keptVariantSkus,
  knownCategories,
  variantDocs,
  variantSkus,
} from './products-record.ts'
import { chooseSlugs, type Named } from './products-slug.ts'
import { isAtSite, isOurs, rowOf, stagedOf, type Traversal } from './products-staged.ts'
import type { SyncRun } from './run.ts'
import { reservedMap } from './stock.ts'
import { newVariants } from './variants.ts'

/** What was made of a range. */
export interface MadeCounts {
  inserted: number
  variantsInserted: number
  categoriesUnknown: number
}

/** A staged product that has no row yet, and the slug that it is to get. */
export interface PlannedInsert {
  n: number
  slug: string
}

/** Reads which staged products of a range have no row yet. What is written at the same time must be planned together. */
export async function planInserts(tx: Tx, run: SyncRun, range: StagedRange): Promise<PlannedInsert[]> {
  const products = await readHomeless(tx, run, range)
  if (products.length === 0) return []
  const slugs = await chooseSlugs(products, (candidates) => readTakenSlugs(tx, run.siteId, candidates))
  return products.map(({ n }, at) => ({ n, slug: slugs[at]! }))
}

/**
 * Makes rows of the planned products of a range, with their variants and categories, and keeps what the ERP said of them.
 * A SKU that someone else took meanwhile is left out.
 */
export async function insertProducts(
  tx: Tx,
  run: SyncRun,
  view: Traversal,
  { after, through }: StagedRange,
  plan: readonly PlannedInsert[],
): Promise<MadeCounts> {
  const { runId, siteId, hasPriceStream } = run
  const planned = plan.filter(({ n }) => n > after && n <= through)
  if (planned.length === 0) return { inserted: 0, variantsInserted: 0, categoriesUnknown: 0 }
  const ours = (field: string, value: string, otherwise = 'NULL') => sql.raw(isOurs(run, field) ? value : otherwise)
  const named = (value: SQL, type: string) =>
    isOurs(run, 'categories') ? sql`CASE WHEN s.doc ? 'categories' THEN ${value} END` : sql.raw(`NULL::${type}`)
  // Primary keys of staging and erp_prices, website_categories_site_id_slug_key; what `newVariants` says. No id is drawn for
  // what isn't inserted.
  const { rows } = await tx.execute(
    sql`WITH given AS MATERIALIZED (
          SELECT r.n, r.slug, s.erp_id, ${erpNumber} AS number, s.sku, s.version, ${variantDocs(sql`s.sku`)} AS variants,
            ${keptVariantSkus(variantSkus(sql`s.sku`))} AS skus, d.*, coalesce(d.status, 'active') AS erp_status,
            ${ours('status', "coalesce(d.status, 'active')", "'active'")} AS shop_status, ${hashes} AS hashes,
            ${named(knownCategories(view), 'text[]')} AS slugs, ${named(sql`jsonb_array_length(s.doc -> 'categories')`, 'int')} AS named
          FROM json_to_recordset(${JSON.stringify(planned)}::json) AS r(n int, slug text)
          JOIN LATERAL (
            SELECT s.* FROM website_worker.sync_staging s
            WHERE s.run_id = ${runId} AND s.n = r.n AND s.refusal IS NULL OFFSET 0) s ON true
          CROSS JOIN LATERAL ${asProduct}
        ), reserved AS MATERIALIZED (${reservedMap(run)}),
        clock AS MATERIALIZED (SELECT now() AT TIME ZONE 'UTC' AS now),
        made AS (
          INSERT INTO public.website_products
            (site_id, erp_product_id, sku, name, description, short_description, price, compare_at_price, cost, status, weight,
             dimensions, attributes, images, seo_slug, sync_status, last_synced_at, created_at, updated_at)
          SELECT ${siteId}, g.number, g.sku, g.name, ${ours('description', 'g.description')},
            ${ours('shortDescription', 'g."shortDescription"')}, coalesce(e.price, g.price),
            CASE WHEN e.says_compare_at THEN e.compare_at_price ELSE g."compareAtPrice" END, g.cost, g.shop_status, g.weight,
            g.dimensions, coalesce(${ours('attributes', 'g.attributes')}, '{}'::jsonb),
            coalesce(${ours('images', 'g.images')}, '[]'::jsonb), g.slug, 'synced', t.now, t.now, t.now
          FROM given g
          CROSS JOIN clock t
          LEFT JOIN LATERAL (
            SELECT e.* FROM website_worker.erp_prices e
            WHERE ${hasPriceStream} AND e.site_id = ${siteId} AND e.sku = g.sku OFFSET 0) e ON true
          ORDER BY g.n
          ON CONFLICT (site_id, sku) DO NOTHING
          RETURNING id, sku, status
        ), fresh AS MATERIALIZED (
          SELECT m.id, m.status, g.erp_id, g.sku, g.version, g.variants, g.skus, g.erp_status, g.hashes, g.slugs, g.named
          FROM made m JOIN given g ON g.sku = m.sku
        ), linked AS (
          INSERT INTO website_worker.erp_ids (site_id, entity, erp_id, row_id)
          SELECT ${siteId}, 'product', f.erp_id, f.id FROM fresh f
        ), learnt AS (
          INSERT INTO website_worker.erp_products (product_id, site_id, version, hashes, status, shop_status, variants, categories)
          SELECT f.id, ${siteId}, f.version, f.hashes, f.erp_status,
            CASE WHEN f.status = f.erp_status THEN f.status END, f.skus, f.slugs
          FROM fresh f
        ), sold AS (
          ${newVariants(
            run,
            sql`(SELECT f.id AS product_id, v.doc ->> 'sku' AS sku, v.doc
                 FROM fresh f CROSS JOIN LATERAL jsonb_array_elements(f.variants) AS v(doc)) AS w`,
          )}
        ), sorted AS (
          INSERT INTO public.website_product_categories (product_id, category_id, is_primary, created_at)
          SELECT c.product_id, c.category_id, c.at = 1, t.now
          FROM (
            SELECT f.id AS product_id, ${categoryOf(siteId)} AS category_id, named.at
            FROM fresh f CROSS JOIN LATERAL unnest(f.slugs) WITH ORDINALITY AS named(slug, at) OFFSET 0) c
          CROSS JOIN clock t
          WHERE c.category_id IS NOT NULL
          ORDER BY c.product_id, c.at
          ON CONFLICT DO NOTHING
        ), noted AS (
          INSERT INTO website_worker.product_changes (site_id, product_id, changed)
          SELECT ${siteId}, f.id, '{created}' FROM fresh f WHERE NOT ${run.isFirst})
        SELECT count(*)::int AS inserted, coalesce(sum(f.named - cardinality(f.slugs)), 0)::int AS "categoriesUnknown",
          (SELECT count(*) FROM sold)::int AS "variantsInserted"
        FROM fresh f`,
  )
  return rows[0] as unknown as MadeCounts
}

/** Whether all that is staged in a range, and isn't bad, is as many products. */
export async function isAllOf(tx: Tx, { runId }: SyncRun, range: StagedRange, products: number): Promise<boolean> {
  // Primary key of staging.
  const { rows } = await tx.execute(
    sql`SELECT count(*)::int AS staged FROM website_worker.sync_staging s
        WHERE s.run_id = ${runId} AND s.n > ${range.after} AND s.n <= ${range.through} AND s.kind <> 'reject'`,
  )
  return rows[0]?.staged === products
}

async function readHomeless(tx: Tx, run: SyncRun, range: StagedRange): Promise<Named[]> {
  // Primary keys of staging and erp_ids.
  const { rows } = await tx.execute(
    sql`SELECT s.n, s.erp_id AS "erpId", s.sku, s.doc ->> 'name' AS name FROM website_worker.sync_staging s
        WHERE ${stagedOf(run, 'product', range)} AND s.refusal IS NULL AND ${rowOf(run, sql`s.erp_id`)} IS NULL
        ORDER BY s.n`,
  )
  return rows as unknown as Named[]
}

const slugIndex = 'public.idx_website_products_seo_slug_site_id'

async function readTakenSlugs(tx: Tx, siteId: number, candidates: readonly string[]): Promise<string[]> {
  const { rows: found } = await tx.execute(sql`SELECT to_regclass(${slugIndex}) IS NOT NULL AS "isIndexed"`)
  const named = sql`json_array_elements_text(${JSON.stringify(candidates)}::json) AS c(slug)`
  // idx_website_products_seo_slug_site_id, slug by slug; until a large table has it, idx_website_products_site_id.
  const { rows } = await tx.execute(
    found[0]?.isIndexed
      ? sql`SELECT c.slug FROM ${named}
            WHERE (SELECT true FROM public.website_products p
                   WHERE p.seo_slug = c.slug AND ${isAtSite(sql`p`, { siteId })} LIMIT 1)`
      : sql`SELECT c.slug FROM ${named}
            INTERSECT SELECT p.seo_slug FROM public.website_products p WHERE p.site_id = ${siteId}`,
  )
  return rows.map((row) => row.slug as string)
}
