import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { enqueueItem } from '../enqueue.ts'
import type { SyncRun } from './run.ts'

/** What a sync really changed about a product. */
export interface ProductChange {
  productId: number
  /** e.g. `name`, `price`, `compareAtPrice`, `inventory`. */
  changed: readonly string[]
}

type Announcer = Pick<SyncRun, 'siteId' | 'isFirst'>

/** Notes changes for `product.updated`, in the transaction that makes them, and owes it; not on a site's first import. */
export async function noteProductChanges(tx: Tx, run: Announcer, changes: readonly ProductChange[]): Promise<void> {
  if (run.isFirst || changes.length === 0) return
  const rows = changes.map(({ productId: id, changed }) => ({ id, changed }))
  await tx.execute(
    sql`INSERT INTO website_worker.product_changes (site_id, product_id, changed)
        SELECT ${run.siteId}, r.id, r.changed
        FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS r(id int, changed text[])`,
  )
  await oweAnnouncement(tx, run)
}

/** Owes `product.updated` for the changes that this transaction has noted. */
export async function oweAnnouncement(tx: Tx, { siteId, isFirst }: Announcer): Promise<void> {
  if (isFirst) return
  await enqueueItem(tx, 'announce-products', { siteId }, { rung: false, trigger: 'sync' })
}
