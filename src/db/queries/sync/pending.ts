import { sql } from 'drizzle-orm'
import type { SyncType } from '../../../erp.ts'
import { transact, type Db } from '../../client.ts'
import { enqueueItem } from '../enqueue.ts'
import { pgErrorOf } from '../pg-error.ts'
import { hasErp } from './sync-schedules.ts'

/** Products of a site that are asked for at once. */
const mostProducts = 1_000
/** Sites looked after in one call. */
const mostSites = 100

/** A run that failed is not asked for again, for the same products, before this has passed. */
const restMs = 900_000

/** Sites with something to bring and no item that will: products that are pending, or asks that a failed item left. */
async function waitingSites(db: Db, job: string, type: SyncType, hasDefault: boolean): Promise<number[]> {
  // sync_checkpoints is a row a site and type; of each idx_website_products_pending and erp_asks_site are probed once, and
  // work_unfinished_key. Products count once the catalog was read as a whole: before that, every one is pending.
  const { rows } = await db.execute(
    sql`SELECT c.site_id FROM website_worker.sync_checkpoints c
        JOIN public.website_sites s ON s.id = c.site_id AND s.deleted_at IS NULL AND ${hasErp(sql`s`, hasDefault)}
        WHERE c.type = ${type} AND (c.failed_at IS NULL OR c.failed_at < now() - ${restMs} * interval '1 ms')
          AND ((${type} = 'product' AND c.full_at IS NOT NULL AND (
                 SELECT p.id FROM public.website_products p
                 WHERE p.site_id = c.site_id AND p.sync_status = 'pending' AND p.deleted_at IS NULL LIMIT 1) IS NOT NULL)
               OR (SELECT a.id FROM website_worker.erp_asks a
                   WHERE a.site_id = c.site_id AND a.type = c.type LIMIT 1) IS NOT NULL)
          AND (SELECT w.id FROM website_worker.work w
               WHERE w.job = ${job} AND w.key = c.site_id || ':asked=true' AND w.state IN ('owed', 'running', 'held')) IS NULL
          AND website_worker.hold_reason('erp', c.site_id) IS NULL
        ORDER BY random() LIMIT ${mostSites}`,
  )
  return rows.map((row) => row['site_id'] as number)
}

/** Owes a site's targeted run, with what is pending there among its asks. */
function oweAsked(db: Db, job: string, type: SyncType, siteId: number): Promise<void> {
  return transact(db, async (tx) => {
    if (type === 'product') {
      // idx_website_products_pending, erp_asks_site.
      await tx.execute(
        sql`INSERT INTO website_worker.erp_asks (site_id, type, sku)
            SELECT ${siteId}, 'product', p.sku FROM (
              SELECT sku FROM public.website_products
              WHERE site_id = ${siteId} AND sync_status = 'pending' AND deleted_at IS NULL ORDER BY id LIMIT ${mostProducts}) p
            WHERE p.sku NOT IN (
              SELECT a.sku FROM website_worker.erp_asks a WHERE a.site_id = ${siteId} AND a.type = 'product')`,
      )
    }
    await enqueueItem(tx, job, { siteId, asked: true }, { rung: false, trigger: 'discovery' })
  })
}

/** Owes what is waited for at sites, for at most `budgetMs`; one that someone else is in the way of waits. Returns how many. */
export async function owePending(
  db: Db,
  { job, type }: { job: string; type: SyncType },
  hasDefault: boolean,
  budgetMs: number,
): Promise<number> {
  const until = performance.now() + budgetMs
  let owed = 0
  for (const siteId of await waitingSites(db, job, type, hasDefault)) {
    if (performance.now() >= until) break
    try {
      await oweAsked(db, job, type, siteId)
      owed++
    } catch (error) {
      if (pgErrorOf(error)?.code !== '55P03') throw error
    }
  }
  return owed
}
