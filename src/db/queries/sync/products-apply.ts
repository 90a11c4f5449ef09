import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { applyCategories } from './categories.ts'
import { noteProductChanges, oweAnnouncement } from './changes.ts'
import { inHalves } from './halves.ts'
import type { StagedRange } from './levels.ts'
import { forgetLostRows, linkByNumber, linkBySku, refuseTwins } from './matching.ts'
import { applyPricesTo } from './prices.ts'
import { insertProducts, isAllOf, type PlannedInsert } from './products-insert.ts'
import { ints, passOver, type Traversal } from './products-staged.ts'
import { updateProducts } from './products-update.ts'
import { renameProducts } from './renames.ts'
import type { ApplyCounts, SyncRun } from './run.ts'
import { writeStock } from './stock.ts'
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
  await inHalves(tx, renamed, (inner, ids) => stockUp(inner, run, ids))
  await linkBySku(tx, run, view)
  await announce(tx, run)
  return { renamed: renamed.length }
}

/** What is left of `linkProducts` where the shop is empty. */
export async function linkNothing(tx: Tx, run: SyncRun): Promise<ApplyCounts> {
  await refuseTwins(tx, run)
  return { renamed: 0 }
}

/** Writes the staged products and tombstones of a range; `plan`: its inserts. Doing it again changes nothing. */
export async function applyProductRange(
  tx: Tx,
  run: SyncRun,
  view: Traversal,
  range: StagedRange,
  plan: readonly PlannedInsert[],
): Promise<ApplyCounts> {
  const made = await insertProducts(tx, run, view, range, plan)
  // Of a first import nothing is stale, deleted or removed: that isn't looked for.
  if (made.inserted > 0 && (await isAllOf(tx, run, range, made.inserted))) {
    await announce(tx, run)
    return { updated: 0, unchanged: 0, ...made }
  }
  await linkBySku(tx, run, view, range)
  const leftAlone = await passOver(tx, run, range)
  const variants = await applyVariants(tx, run, range)
  const categoriesUnknown = await applyCategories(tx, run, view, range)
  const { adopted, updated, unchanged, ...changes } = await updateProducts(tx, run, view, range)
  await stockUp(tx, run, adopted)
  const deactivated = changes.deactivated + (await applyTombstones(tx, run, range))
  await announce(tx, run)
  return {
    inserted: made.inserted,
    updated,
    unchanged,
    adopted: adopted.length,
    deactivated,
    ...variants,
    variantsInserted: made.variantsInserted + variants.variantsInserted,
    categoriesUnknown: made.categoriesUnknown + categoriesUnknown,
    ...leftAlone,
  }
}

/**
 * Rows that have another SKU, or were there before the ERP's product was known, get the price and the stock that it named
 * for their SKUs: it says each only once.
 */
async function stockUp(tx: Tx, run: SyncRun, productIds: readonly number[]): Promise<void> {
  if (productIds.length === 0) return
  const priced = await applyPricesTo(tx, run, productIds)
  // idx_website_product_variants_product_id.
  const { rows } = await tx.execute(
    sql`SELECT v.id FROM public.website_product_variants v WHERE v.product_id = ANY (${ints(productIds)})`,
  )
  const variantIds = rows.map((row) => row.id as number)
  const stocked = new Set((await writeStock(tx, run, variantIds)).map(({ productId }) => productId))
  const changes = [...stocked].map((productId) => ({ productId, changed: ['inventory'] }))
  await noteProductChanges(tx, run, [...priced, ...changes])
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
