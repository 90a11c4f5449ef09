import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'

const batch = 5_000

const tables = [
  'public.website_analytics_visits',
  'public.website_analytics_page_hourly',
  'public.website_analytics_page_daily',
  'public.website_analytics_dimensions_daily',
  'public.website_analytics_events_daily',
  'public.website_analytics_visitors',
  'public.website_analytics_site_daily',
  'website_worker.analytics_dirty',
  'website_worker.analytics_late',
  'website_worker.rollup_sites',
] as const

/** Removes the analytics of a site that is gone, in small statements. Returns whether all are. */
export async function purgeSite(db: Db, siteId: number, signal: AbortSignal): Promise<boolean> {
  for (const table of tables) {
    for (;;) {
      if (signal.aborted) return false
      // The table's primary key, which begins with the site.
      const { rowCount } = await db.execute(
        sql`DELETE FROM ${sql.raw(table)} WHERE ctid = ANY (ARRAY(
              SELECT ctid FROM ${sql.raw(table)} WHERE site_id = ${siteId} LIMIT ${batch}))`,
      )
      if ((rowCount ?? 0) < batch) break
    }
  }
  return true
}
