import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { applyCategories } from './categories.ts'
import { oweAnnouncement } from './changes.ts'
import type { StagedRange } from './levels.ts'
import { forgetLostRows, linkByNumber, linkBySku, refuseTwins } from './matching.ts'
import { applyPricesTo } from './prices.ts'
import { insertProducts } from './products-insert.ts'
import { ints, passStale, type Traversal } from './products-staged.ts'
import { updateProducts } from './products-update.ts'
import { renameProducts } from './renames.ts'
import type { ApplyCounts, SyncRun } from './run.ts'
import { applyStockTo } from './stock.ts'
import { applyTombstones } from './sweep.ts'
import { applyVariants } from './variants.ts'

/**
 * Finds the rows of all staged products, gives them the SKUs that the ERP gave them, and refuses what would take another's.
 * Doing it again changes nothing.
 */
export async function linkProducts(tx: Tx, run: SyncRun, view: Traversal): Promise<ApplyCounts> {
  await forgetLostRows(tx, run)
  await linkByNumber(tx, run)
  await refuseTwins(tx, run)
  const renamed = await renameProducts(tx, run, view)
  await linkBySku(tx, run, view)
  await announce(tx, run)
  return { renamed }
}

/** Writes the staged products and tombstones of a range. Doing it again changes nothing. */
export async function applyProductRange(
  tx: Tx,
  run: SyncRun,
  view: Traversal,
  range: StagedRange,
): Promise<ApplyCounts> {
  const inserted = await insertProducts(tx, run, range)
  await linkBySku(tx, run, view, range)
  const stale = await passStale(tx, run, range)
  const variants = await applyVariants(tx, run, range)
  const categoriesUnknown = await applyCategories(tx, run, range)
  const { adopted, updated, unchanged, ...changes } = await updateProducts(tx, run, range)
  await stockUp(tx, run, adopted)
  const deactivated = changes.deactivated + (await applyTombstones(tx, run, range))
  await announce(tx, run)
  return {
    inserted,
    updated,
    unchanged,
    stale,
    adopted: adopted.length,
    deactivated,
    categoriesUnknown,
    ...variants,
    ...(await countLeftAlone(tx, run, range)),
  }
}

/** Rows that were there before the ERP's product was known get the price and the stock that it named for their SKUs. */
async function stockUp(tx: Tx, run: SyncRun, productIds: readonly number[]): Promise<void> {
  if (productIds.length === 0) return
  await applyPricesTo(tx, run, productIds)
  // idx_website_product_variants_product_id.
  const { rows } = await tx.execute(
    sql`SELECT v.id FROM public.website_product_variants v WHERE v.product_id = ANY (${ints(productIds)})`,
  )
  await applyStockTo(
    tx,
    run,
    rows.map((row) => row.id as number),
  )
}

/** Owes `product.updated`, if there is anything to tell. */
export async function announce(tx: Tx, run: SyncRun): Promise<void> {
  if (run.isFirst) return
  // product_changes_product.
  const { rowCount } = await tx.execute(
    sql`SELECT FROM website_worker.product_changes c WHERE c.site_id = ${run.siteId} LIMIT 1`,
  )
  if (rowCount) await oweAnnouncement(tx, run)
}

/** Staged products of a range whose rows the shop has deleted, and those that give way to another of the same SKU. */
async function countLeftAlone(tx: Tx, { runId, siteId }: SyncRun, range: StagedRange): Promise<ApplyCounts> {
  // Primary keys.
  const { rows } = await tx.execute(
    sql`SELECT count(*) FILTER (WHERE p.deleted_at IS NOT NULL)::int AS deleted, count(*) FILTER (WHERE s.refusal = '')::int AS shadowed
        FROM website_worker.sync_staging s
        LEFT JOIN website_worker.erp_ids l ON l.site_id = ${siteId} AND l.entity = 'product' AND l.erp_id = s.erp_id
        LEFT JOIN public.website_products p ON p.id = l.row_id
        WHERE s.run_id = ${runId} AND s.n > ${range.after} AND s.n <= ${range.through} AND s.kind = 'product'`,
  )
  return rows[0] as unknown as ApplyCounts
}
