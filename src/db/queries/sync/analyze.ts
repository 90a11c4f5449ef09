import { sql } from 'drizzle-orm'
import type { SyncType } from '../../../erp.ts'
import { transact, type Db } from '../../client.ts'
import type { RunRow } from './runs.ts'

const products =
  'public.website_products (id, site_id, erp_product_id, sku, seo_slug, status, price, sync_status, deleted_at)'
const variants = 'public.website_product_variants (id, product_id, sku, price, inventory_quantity)'

/** Tables that a run of a stream writes to in bulk, and what of them is looked for: texts and documents take longest. */
const tables: Record<SyncType, string> = {
  product: `${products}, ${variants}, public.website_product_categories, website_worker.erp_products (product_id, site_id), website_worker.erp_ids`,
  inventory: `${variants}, website_worker.erp_stock`,
  price: `${products}, ${variants}, website_worker.erp_prices`,
}

/** What is too little to plan for. */
const few = 1_000

/**
 * Lets the planner know what a run has staged. Waits for a vacuum of it, which gives way only once the server has looked for
 * a deadlock.
 */
export async function analyzeStaging(db: Db, { staged }: Pick<RunRow, 'staged'>): Promise<void> {
  if (staged >= few) await analyze(db, 'website_worker.sync_staging (run_id, n, kind, erp_id, sku, refusal)', '10s')
}

/**
 * Renews the planner's statistics after a first import, or a run over more than a tenth of a site's products: the server's
 * own turn may be minutes away, and until then it plans for tables that were empty. Without the right to, or while someone
 * is in the way, nothing happens.
 */
export async function analyzeCatalog(
  db: Db,
  type: SyncType,
  siteId: number,
  { isFirst, staged }: Pick<RunRow, 'isFirst' | 'staged'>,
): Promise<void> {
  if (staged < few) return
  if (!isFirst) {
    // idx_website_products_site_id.
    const { rows } = await db.execute(
      sql`SELECT count(*)::int AS count FROM public.website_products WHERE site_id = ${siteId} AND deleted_at IS NULL`,
    )
    if (staged * 10 < (rows[0]?.['count'] as number)) return
  }
  await analyze(db, tables[type], '500ms').catch(() => {})
}

async function analyze(db: Db, what: string, patience: string): Promise<void> {
  await transact(db, async (tx) => {
    await tx.execute(sql`SELECT set_config('lock_timeout', ${patience}, true)`)
    await tx.execute(sql`ANALYZE ${sql.raw(what)}`)
  })
}
