import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import type { SyncRun } from './run.ts'

/**
 * Waits until no other transaction applies to the catalog of the site, and keeps them out until this one ends. Without
 * it the stock of a SKU and the variant that it belongs to could come at the same moment and never see each other.
 */
export async function lockCatalog(tx: Tx, { siteId }: Pick<SyncRun, 'siteId'>): Promise<void> {
  await tx.execute(sql`SELECT pg_advisory_xact_lock(hashtextextended('website_worker.catalog', ${siteId}))`)
}
