import { sql, type SQL } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { isRetired, liveProductAt, variantOf, variantsOf } from './catalog-rows.ts'
import { stagedBetween, type StagedRange } from './levels.ts'
import type { SyncRun } from './run.ts'

type StockRun = Pick<SyncRun, 'runId' | 'siteId' | 'pushesOrders'>

/**
 * Units by SKU (`sku`, `units`) that orders took and the ERP doesn't know of yet: those it hasn't been told of since the
 * domain was enabled. What was ordered as a variant counts for the SKU that the variant has by now.
 */
export function reservedUnits({ siteId, pushesOrders }: Pick<SyncRun, 'siteId' | 'pushesOrders'>): SQL {
  if (!pushesOrders) return sql`SELECT NULL::text AS sku, 0::bigint AS units WHERE false`
  // idx_website_orders_unpushed, from the watermark on; domains_domain_site_id_pk, erp_ids_row,
  // idx_website_order_items_order_id and the primary key of variants.
  return sql`
    SELECT coalesce(v.sku, i.sku)::text AS sku, sum(i.quantity)::bigint AS units
    FROM public.website_orders o
    JOIN LATERAL (SELECT i.* FROM public.website_order_items i WHERE i.order_id = o.id OFFSET 0) i ON true
    LEFT JOIN LATERAL (SELECT v.sku FROM public.website_product_variants v WHERE v.id = i.variant_id OFFSET 0) v ON true
    WHERE o.site_id = ${siteId} AND o.erp_order_id IS NULL AND o.erp_order_ref IS NULL
      AND o.id > coalesce((SELECT d.watermark FROM website_worker.domains d
                           WHERE d.domain = 'erp' AND d.site_id IN (0, ${siteId}) ORDER BY d.site_id DESC LIMIT 1), 0)
      AND coalesce(o.status, '') NOT IN ('cancelled', 'refunded')
      AND (SELECT e.row_id FROM website_worker.erp_ids e WHERE e.entity = 'order' AND e.row_id = o.id) IS NULL
    GROUP BY 1`
}

/** `reservedUnits` as one object, for a CTE `reserved`: looked up in it, however many there are. */
export const reservedMap = (run: StockRun): SQL =>
  sql`SELECT coalesce(jsonb_object_agg(u.sku, u.units), '{}') AS units FROM (${reservedUnits(run)}) u`

/** What a variant of a quantity and SKU should show, given a CTE `reserved`; no sum of ours may break the column's range. */
export const lessReserved = (quantity: SQL, sku: SQL): SQL =>
  sql`least(greatest(${quantity}::bigint - coalesce(((SELECT r.units FROM reserved r) ->> ${sku})::bigint, 0),
    -2147483648), 2147483647)::int`

/**
 * Variants and what they should show: what the ERP last said, less what is `reserved`, a CTE: `id`, `product_id`, `sku`,
 * `quantity`, and whether that differs, `is_off`. `variants`: a FROM that makes them `t`.
 */
const shouldShow = ({ siteId }: StockRun, variants: SQL): SQL => sql`
  SELECT t.id, t.product_id, t.sku, e.quantity, t.inventory_quantity IS DISTINCT FROM e.quantity AND NOT ${isRetired} AS is_off
  FROM ${variants} ${liveProductAt(siteId)}
  JOIN LATERAL (
    SELECT s.quantity FROM website_worker.erp_stock s WHERE s.site_id = ${siteId} AND s.sku = t.sku OFFSET 0) s ON true
  CROSS JOIN LATERAL (SELECT ${lessReserved(sql`s.quantity`, sql`t.sku`)} AS quantity OFFSET 0) e`

/** Rows to be written: those that are locked now, and how many someone else has locked. */
export interface LockedStock {
  locked: number[]
  busy: number
  /** SKUs of the range that the site sells. */
  sold: number
}

/**
 * Locks the variants of a range's SKUs whose stock has to change. What an order is just taking from is left out, so that
 * no lock is waited for while others are held: the main app never meets a deadlock with us.
 */
export async function lockStock(tx: Tx, run: StockRun, range: StagedRange): Promise<LockedStock> {
  // Primary keys of staging, products and erp_stock, idx_website_product_variants_sku; primary key of variants.
  const { rows } = await tx.execute(
    sql`WITH reserved AS MATERIALIZED (${reservedMap(run)}),
        page AS MATERIALIZED (SELECT l.sku FROM ${stagedBetween(run, 'level', range)}),
        there AS MATERIALIZED (${shouldShow(run, sql`page ${variantsOf(sql`page.sku`)}`)}),
        locked AS MATERIALIZED (
          SELECT v.id FROM public.website_product_variants v
          WHERE v.id = ANY (ARRAY(SELECT w.id FROM there w WHERE w.is_off)) FOR NO KEY UPDATE SKIP LOCKED)
        SELECT ARRAY(SELECT l.id FROM locked l) AS locked, count(*) FILTER (WHERE w.is_off)::int AS wanted,
          count(DISTINCT w.sku)::int AS sold
        FROM there w`,
  )
  const { locked, wanted, sold } = rows[0] as { locked: number[]; wanted: number; sold: number }
  return { locked, busy: wanted - locked.length, sold }
}

/** Rows that were written, by what the ERP calls them. */
export interface Written {
  sku: string
  productId: number
}

/**
 * Sets variants to what the ERP last said of their SKUs, less what is reserved, where that differs. Orders count that were
 * committed before the variants were locked: the rest take their units from the new stock.
 */
export async function writeStock(tx: Tx, run: StockRun, variantIds: readonly number[]): Promise<Written[]> {
  if (variantIds.length === 0) return []
  const ids = sql`unnest(${sql.param(variantIds)}::int[]) AS i(id)`
  // Primary keys of variants, products and erp_stock.
  const { rows } = await tx.execute(
    sql`WITH reserved AS MATERIALIZED (${reservedMap(run)}),
        wanted AS MATERIALIZED (${shouldShow(run, sql`${ids} ${variantOf(sql`i.id`)}`)})
        UPDATE public.website_product_variants v SET inventory_quantity = w.quantity
        FROM wanted w WHERE v.id = w.id AND w.is_off
        RETURNING v.sku, v.product_id AS "productId"`,
  )
  return rows as unknown as Written[]
}

/** Gives variants that are new, or back, the stock that the ERP last named for their SKUs; tells nobody. Returns how many. */
export async function applyStockTo(tx: Tx, run: StockRun, variantIds: readonly number[]): Promise<number> {
  return (await writeStock(tx, run, variantIds)).length
}
