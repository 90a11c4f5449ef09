import { sql, type SQL } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import type { StagedRange } from './levels.ts'
import { variantDocs, variantSkus } from './products-record.ts'
import { ints, isWritable, stagedRows } from './products-staged.ts'
import type { SyncRun } from './run.ts'
import { applyStockTo, lessReserved, reservedMap } from './stock.ts'

/** What became of the variants of a range's products. */
export interface VariantCounts {
  variantsInserted: number
  variantsUpdated: number
  variantsDeleted: number
  variantsRetired: number
  variantsRevived: number
}

/** The variants that the ERP names of staged products, each as `v`; one of the product's own SKU where it names none. */
const named: SQL = sql`CROSS JOIN LATERAL jsonb_array_elements(${variantDocs(sql`p.sku`)}) AS v(doc)`
/** The SKUs of these. */
const skus = variantSkus(sql`p.sku`)

const money = (field: string) => sql.raw(`(w.doc ->> '${field}')::numeric(10, 2)`)

/** Brings the variants of staged products in line with the ERP's. */
export async function applyVariants(tx: Tx, run: SyncRun, range: StagedRange): Promise<VariantCounts> {
  const variantsRevived = await reviveVariants(tx, run, range)
  const written = await writeVariants(tx, run, range)
  return { ...written, variantsRevived, ...(await removeVariants(tx, run, range)) }
}

/**
 * Inserts the variants `w` (`product_id`, `sku`, `doc`) of a FROM item, given a CTE `reserved`; returns their `product_id`s.
 * A variant of its product's SKU without a price of its own costs what the product costs. Primary keys of erp_stock and
 * erp_prices.
 */
export const newVariants = ({ siteId, hasPriceStream }: SyncRun, wanted: SQL): SQL => sql`
  INSERT INTO public.website_product_variants
    (product_id, sku, name, price, compare_at_price, attributes, image_url, weight, inventory_quantity, created_at, updated_at)
  SELECT w.product_id, w.sku, w.doc ->> 'name',
    CASE WHEN w.doc ? 'price' THEN coalesce(e.price, ${money('price')}) END,
    CASE WHEN NOT w.doc ? 'price' THEN NULL WHEN e.says_compare_at THEN e.compare_at_price
         ELSE ${money('compareAtPrice')} END,
    coalesce(nullif(w.doc -> 'attributes', 'null'), '{}'), w.doc ->> 'imageUrl', ${money('weight')},
    CASE WHEN k.quantity IS NULL THEN 0 ELSE ${lessReserved(sql`k.quantity`, sql`w.sku`)} END, t.now, t.now
  FROM ${wanted}
  CROSS JOIN (SELECT now() AT TIME ZONE 'UTC') AS t(now)
  LEFT JOIN LATERAL (
    SELECT k.quantity FROM website_worker.erp_stock k WHERE k.site_id = ${siteId} AND k.sku = w.sku OFFSET 0) k ON true
  LEFT JOIN LATERAL (
    SELECT e.* FROM website_worker.erp_prices e
    WHERE ${hasPriceStream} AND e.site_id = ${siteId} AND e.sku = w.sku OFFSET 0) e ON true
  ORDER BY w.product_id
  ON CONFLICT (product_id, sku) DO NOTHING
  RETURNING product_id`

/** How a column of a variant that stands is told from the ERP's, and written where the ERP names it. */
function columnsOf({ hasPriceStream }: SyncRun): { column: string; field: string; value: SQL }[] {
  const text = (field: string) => sql.raw(`w.doc ->> '${field}'`)
  return [
    { column: 'name', field: 'name', value: text('name') },
    { column: 'attributes', field: 'attributes', value: sql`nullif(w.doc -> 'attributes', 'null')` },
    { column: 'image_url', field: 'imageUrl', value: text('imageUrl') },
    { column: 'weight', field: 'weight', value: money('weight') },
    ...(hasPriceStream
      ? []
      : [
          { column: 'price', field: 'price', value: money('price') },
          { column: 'compare_at_price', field: 'compareAtPrice', value: money('compareAtPrice') },
        ]),
  ]
}

async function writeVariants(
  tx: Tx,
  run: SyncRun,
  range: StagedRange,
): Promise<Pick<VariantCounts, 'variantsInserted' | 'variantsUpdated'>> {
  const { siteId } = run
  const columns = columnsOf(run)
  const isOther = columns.map(
    ({ column, field, value }) => sql`w.doc ? ${field} AND v.${sql.raw(column)} IS DISTINCT FROM ${value}`,
  )
  const sets = columns.map(
    ({ column, field, value }) =>
      sql`${sql.raw(column)} = CASE WHEN w.doc ? ${field} THEN ${value} ELSE v.${sql.raw(column)} END`,
  )
  // Primary keys, website_product_variants_product_id_sku_key; what `newVariants` says.
  const { rows } = await tx.execute(
    sql`WITH reserved AS MATERIALIZED (${reservedMap(run)}),
        wanted AS MATERIALIZED (
          SELECT w.*, v.id, (${sql.join(isOther, sql` OR `)}) AS is_other
          FROM (
            SELECT p.id AS product_id, v.doc ->> 'sku' AS sku, v.doc
            FROM ${stagedRows(run)} ${named} WHERE ${isWritable(run, range)} OFFSET 0) w
          LEFT JOIN LATERAL (
            SELECT v.* FROM public.website_product_variants v
            WHERE v.product_id = w.product_id AND v.sku = w.sku OFFSET 0) v ON true
        ), inserted AS (
          ${newVariants(run, sql`(SELECT * FROM wanted WHERE id IS NULL) AS w`)}
        ), updated AS (
          UPDATE public.website_product_variants v SET ${sql.join(sets, sql`, `)}
          FROM wanted w WHERE v.id = w.id AND w.is_other
          RETURNING v.product_id
        ), noted AS (
          INSERT INTO website_worker.product_changes (site_id, product_id, changed)
          SELECT ${siteId}::int, c.product_id, '{variants}'::text[]
          FROM (SELECT product_id FROM inserted UNION SELECT product_id FROM updated) c
          WHERE NOT ${run.isFirst})
        SELECT (SELECT count(*) FROM inserted)::int AS "variantsInserted", (SELECT count(*) FROM updated)::int AS "variantsUpdated"`,
  )
  return rows[0] as unknown as VariantCounts
}

/** Variants that the ERP has again sell as they did before. */
async function reviveVariants(tx: Tx, run: SyncRun, range: StagedRange): Promise<number> {
  // Primary keys; nothing is looked at where nothing is retired.
  const { rows } = await tx.execute(
    sql`WITH back AS (
          DELETE FROM website_worker.retired_variants t
          USING public.website_product_variants v, ${stagedRows(run)}
          WHERE v.id = t.variant_id AND p.id = v.product_id AND ${isWritable(run, range)} AND v.sku = ANY (${skus})
            AND (SELECT true FROM website_worker.retired_variants LIMIT 1)
          RETURNING t.variant_id, t.inventory_policy)
        UPDATE public.website_product_variants v SET inventory_policy = coalesce(back.inventory_policy, v.inventory_policy)
        FROM back WHERE v.id = back.variant_id RETURNING v.id`,
  )
  const ids = rows.map((row) => row.id as number)
  if (ids.length > 0) await applyStockTo(tx, run, ids)
  return ids.length
}

/**
 * Removes the variants that the ERP had and doesn't have any more; those that the shop made itself stay. What carts or
 * orders name can't go: it stays with nothing to sell.
 */
async function removeVariants(
  tx: Tx,
  run: SyncRun,
  range: StagedRange,
): Promise<Pick<VariantCounts, 'variantsDeleted' | 'variantsRetired'>> {
  // Primary keys, website_product_variants_product_id_sku_key. Locked first: who puts one into a cart meanwhile is seen next.
  const { rows } = await tx.execute(
    sql`SELECT v.id, v.product_id AS "productId"
        FROM ${stagedRows(run)}
        CROSS JOIN LATERAL (SELECT ${skus}) AS has(skus)
        CROSS JOIN LATERAL unnest(coalesce(ep.variants, ARRAY[p.sku::text])) AS had(sku)
        JOIN public.website_product_variants v ON v.product_id = p.id AND v.sku = had.sku
        WHERE ${isWritable(run, range)} AND coalesce(ep.variants, ARRAY[p.sku::text]) <> has.skus
          AND had.sku <> ALL (has.skus) AND NOT s.doc ? 'keepsVariants'
          AND NOT EXISTS (SELECT FROM website_worker.retired_variants t WHERE t.variant_id = v.id)
        ORDER BY v.id FOR UPDATE OF v`,
  )
  if (rows.length === 0) return { variantsDeleted: 0, variantsRetired: 0 }
  const ids = rows.map((row) => row.id as number)
  // Primary key; idx_website_cart_items_variant_id and idx_website_order_items_variant_id.
  const { rowCount } = await tx.execute(
    sql`DELETE FROM public.website_product_variants v
        WHERE v.id = ANY (${ints(ids)})
          AND NOT EXISTS (SELECT FROM public.website_cart_items i WHERE i.variant_id = v.id)
          AND NOT EXISTS (SELECT FROM public.website_order_items i WHERE i.variant_id = v.id)`,
  )
  const variantsDeleted = rowCount ?? 0
  if (variantsDeleted < ids.length) await retireVariants(tx, ids)
  await tx.execute(
    sql`INSERT INTO website_worker.product_changes (site_id, product_id, changed)
        SELECT DISTINCT ${run.siteId}::int, r.id, '{variants}'::text[]
        FROM unnest(${ints(rows.map((row) => row.productId as number))}) AS r(id) WHERE NOT ${run.isFirst}`,
  )
  return { variantsDeleted, variantsRetired: ids.length - variantsDeleted }
}

async function retireVariants(tx: Tx, ids: readonly number[]): Promise<void> {
  // Primary keys.
  await tx.execute(
    sql`WITH retired AS (
          INSERT INTO website_worker.retired_variants (variant_id, inventory_policy)
          SELECT v.id, v.inventory_policy FROM public.website_product_variants v WHERE v.id = ANY (${ints(ids)})
          ON CONFLICT DO NOTHING)
        UPDATE public.website_product_variants v SET inventory_quantity = 0, inventory_policy = 'deny'
        WHERE v.id = ANY (${ints(ids)}) AND (v.inventory_quantity, v.inventory_policy) IS DISTINCT FROM (0, 'deny')`,
  )
}
