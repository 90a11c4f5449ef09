import { sql, type SQL } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import type { StagedRange } from './levels.ts'
import {
  asProduct,
  erpNumber,
  hashes,
  isSent,
  keptVariantSkus,
  knownCategories,
  productFields,
  variantSkus,
  type ProductField,
} from './products-record.ts'
import { isBlank, isOurs, isWritable, stagedRows, type Traversal } from './products-staged.ts'
import type { SyncRun } from './run.ts'

/** What became of the staged products of a range that have a row. */
export interface UpdateCounts {
  updated: number
  unchanged: number
  deactivated: number
  /** Rows that we had not known. */
  adopted: number[]
}

const prices = ['price', 'compareAtPrice']

/** The name of a field, if the ERP's value of it is to be written. */
function changeOf(run: SyncRun, field: ProductField): SQL {
  const { name, column, isShared } = field
  const isChanged = isShared
    ? sql`CASE WHEN ep.product_id IS NULL THEN ${isBlank} ELSE ep.hashes -> ${name} IS DISTINCT FROM h.hashes -> ${name} END`
    : prices.includes(name) && run.hasPriceStream
      ? sql`ep.product_id IS NULL AND p.last_synced_at IS NULL`
      : sql`true`
  return sql`CASE WHEN ${isSent(field)} AND p.${sql.raw(column)} IS DISTINCT FROM ${sql.raw(`d."${name}"`)}
    AND ${isChanged} THEN ${name} END`
}

/**
 * The shop's status follows the ERP's when that changes: away from active always, unless the shop has the product as a
 * draft of its own; back to active only if nobody in the shop has chosen a status since.
 */
const statusChange: SQL = sql`
  CASE WHEN (ep.product_id IS NULL OR ep.status <> e.status) AND coalesce(p.status, 'active') <> e.status
    AND (e.status <> 'active' AND coalesce(p.status, 'active') = 'active' OR p.status = ep.shop_status) THEN 'status' END`

// Whose price is in quarantine stays in error, however well its product is. sync_quarantine_open.
const isUnsynced = ({ siteId }: SyncRun): SQL => sql`
  CASE WHEN p.sync_status = 'error' THEN NOT EXISTS (
         SELECT FROM website_worker.sync_quarantine o
         WHERE o.site_id = ${siteId} AND o.type = 'price' AND o.entity = 'product' AND o.key = 'sku:' || p.sku
           AND o.resolved_at IS NULL)
       ELSE p.sync_status IS DISTINCT FROM 'synced' END`

/**
 * Writes what differs of staged products to their rows, and what the ERP said beside it. A row in which nothing differs is
 * not touched. Comes after everything that asks what the ERP said before.
 */
export async function updateProducts(tx: Tx, run: SyncRun, view: Traversal, range: StagedRange): Promise<UpdateCounts> {
  const changes = productFields.filter(({ name }) => isOurs(run, name)).map((field) => changeOf(run, field))
  if (isOurs(run, 'status')) changes.push(statusChange)
  const columns = productFields.map(({ name, column }) =>
    sql.raw(`
    ${column} = CASE WHEN '${name}' = ANY (c.changed) THEN c."${name}" ELSE p.${column} END`),
  )
  const values = sql.raw(productFields.map(({ name }) => `d."${name}"`).join(', '))
  // Primary keys. What isn't changed stays as it is when the row is locked: an edit that comes in between is kept. One
  // statement, so that all of it looks at the rows before any of it writes them.
  const { rows } = await tx.execute(
    sql`WITH calc AS MATERIALIZED (
          SELECT p.id, s.version, ${values}, e.status, p.status AS had_status,
            ${isUnsynced(run)} AS is_unsynced, ${erpNumber} AS number, p.erp_product_id AS had_number,
            h.hashes, ${variants} AS variants, ${categoriesOf(run, view)} AS categories, ep.product_id IS NULL AS is_new,
            x.changed,
            CASE WHEN 'status' = ANY (x.changed) OR ep.product_id IS NULL AND p.status = e.status THEN e.status
                 WHEN ep.status = e.status OR ep.shop_status = p.status THEN ep.shop_status END AS shop_status
          FROM ${stagedRows(run)}
          CROSS JOIN LATERAL ${asProduct}
          CROSS JOIN LATERAL (SELECT coalesce(d.status, 'active')) AS e(status)
          CROSS JOIN LATERAL (SELECT ${hashes}) AS h(hashes)
          CROSS JOIN LATERAL (SELECT array_remove(ARRAY[${sql.join(changes, sql`, `)}], NULL)) AS x(changed)
          WHERE ${isWritable(run, range)}
        ), updated AS (
          UPDATE public.website_products p SET ${sql.join(columns, sql`, `)},
            status = CASE WHEN 'status' = ANY (c.changed) AND p.status IS NOT DISTINCT FROM c.had_status
                          THEN c.status ELSE p.status END,
            erp_product_id = coalesce(c.number, p.erp_product_id), sync_status = 'synced',
            last_synced_at = now() AT TIME ZONE 'UTC'
          FROM calc c
          WHERE p.id = c.id AND (c.changed <> '{}' OR c.is_unsynced OR c.number <> coalesce(c.had_number, 0))
        ), learnt AS (
          INSERT INTO website_worker.erp_products
            (product_id, site_id, version, hashes, status, shop_status, variants, categories)
          SELECT c.id, ${run.siteId}, c.version, c.hashes, c.status, c.shop_status, c.variants, c.categories
          FROM calc c WHERE c.is_new
        ), relearnt AS (
          UPDATE website_worker.erp_products ep SET version = c.version, hashes = ep.hashes || c.hashes, status = c.status,
            shop_status = c.shop_status, variants = c.variants, categories = c.categories
          FROM calc c
          WHERE ep.product_id = c.id AND NOT c.is_new
            AND (ep.version, ep.status, ep.shop_status, ep.variants, ep.categories, ep.hashes @> c.hashes)
              IS DISTINCT FROM (c.version, c.status, c.shop_status, c.variants, c.categories, true)
        ), noted AS (
          INSERT INTO website_worker.product_changes (site_id, product_id, changed)
          SELECT ${run.siteId}, c.id, c.changed FROM calc c WHERE NOT ${run.isFirst} AND c.changed <> '{}')
        SELECT count(*) FILTER (WHERE c.changed <> '{}')::int AS updated,
          count(*) FILTER (WHERE c.changed = '{}')::int AS unchanged,
          count(*) FILTER (WHERE 'status' = ANY (c.changed) AND c.status <> 'active')::int AS deactivated,
          coalesce(array_agg(c.id) FILTER (WHERE c.is_new), '{}') AS adopted
        FROM calc c`,
  )
  return rows[0] as unknown as UpdateCounts
}

const categoriesOf = (run: SyncRun, view: Traversal): SQL =>
  isOurs(run, 'categories')
    ? sql`CASE WHEN s.doc ? 'categories' THEN ${knownCategories(view)} ELSE ep.categories END`
    : sql`ep.categories`

// Of a product some variants of which are bad, what it had may still be there.
const variants = keptVariantSkus(variantSkus(sql`p.sku`), sql`ep.variants`)
