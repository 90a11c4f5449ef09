import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import type { BackfillScope } from '../backfill-submissions.ts'

/** How many rows of a site there are to count since then. */
export async function countPast(
  db: Db,
  { siteId, since }: BackfillScope,
): Promise<{ pageviews: number; events: number }> {
  const from = sql`coalesce(${since?.toISOString() ?? null}::timestamptz AT TIME ZONE 'UTC', '-infinity')`
  // idx_website_pageviews_site_id_created_at and idx_website_events_site_id_created_at.
  const { rows } = await db.execute(
    sql`SELECT
          (SELECT count(*) FROM public.website_pageviews WHERE site_id = ${siteId} AND created_at >= ${from})::float8 AS pageviews,
          (SELECT count(*) FROM public.website_events WHERE site_id = ${siteId} AND created_at >= ${from})::float8 AS events`,
  )
  return rows[0] as { pageviews: number; events: number }
}

/** The unfinished roll-up of a site's past since then, if there is one: asking for it again would have it run twice. */
export async function findPastRollUp(db: Db, siteId: number, from: string): Promise<number | undefined> {
  // work_unfinished_key: a site has a handful of them.
  const { rows } = await db.execute(
    sql`SELECT id FROM website_worker.work
        WHERE job = 'roll-up-analytics' AND state IN ('owed', 'running', 'held') AND site_id = ${siteId}
          AND payload ->> 'from' = ${from} AND payload ->> 'to' IS NULL
        ORDER BY id LIMIT 1`,
  )
  return rows[0] && Number(rows[0].id)
}
