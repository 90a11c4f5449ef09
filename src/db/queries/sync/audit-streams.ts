import { sql } from 'drizzle-orm'
import type { SyncType } from '../../../erp.ts'
import type { Db } from '../../client.ts'

/** A stream of a site's ERP. */
export interface SyncedStream {
  siteId: number
  type: SyncType
}

/** The streams that sites have been synced from, by site and type. */
export async function syncedStreams(
  db: Db,
  { site, type }: { site?: number; type?: SyncType },
): Promise<SyncedStream[]> {
  // A table of few rows for each site; primary key of sites.
  const { rows } = await db.execute(
    sql`SELECT c.site_id AS "siteId", c.type FROM website_worker.sync_checkpoints c
        JOIN public.website_sites s ON s.id = c.site_id AND s.deleted_at IS NULL
        WHERE ${site === undefined ? sql`true` : sql`c.site_id = ${site}`}
          AND ${type === undefined ? sql`true` : sql`c.type = ${type}`}
        ORDER BY c.site_id, array_position(ARRAY['product', 'inventory', 'price'], c.type)`,
  )
  return rows as unknown as SyncedStream[]
}
