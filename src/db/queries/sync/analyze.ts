import { sql } from 'drizzle-orm'
import type { SyncType } from '../../../erp.ts'
import { transact, type Db } from '../../client.ts'
import type { RunRow } from './runs.ts'

/** Tables that a run of a stream writes to in bulk. */
const tables: Record<SyncType, string> = {
  product:
    'public.website_products, public.website_product_variants, public.website_product_categories, website_worker.erp_products, website_worker.erp_ids',
  inventory: 'public.website_product_variants, website_worker.erp_stock',
  price: 'public.website_products, public.website_product_variants, website_worker.erp_prices',
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
  if (staged < 1_000) return
  if (!isFirst) {
    // idx_website_products_site_id.
    const { rows } = await db.execute(
      sql`SELECT count(*)::int AS count FROM public.website_products WHERE site_id = ${siteId} AND deleted_at IS NULL`,
    )
    if (staged * 10 < (rows[0]?.['count'] as number)) return
  }
  await transact(db, async (tx) => {
    await tx.execute(sql`SET LOCAL lock_timeout = '500ms'`)
    await tx.execute(sql`ANALYZE ${sql.raw(tables[type])}`)
  }).catch(() => {})
}
