import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { within } from './pageview-parts.ts'
import { reconcile } from './reconcile.ts'
import type { RollupSite } from './site.ts'

const eventsDaily = { table: 'events_daily', key: ['day', 'event_type', 'event_name'], values: ['events', 'visitors'] }

/** Recomputes `events_daily` of some days of a site. Returns how many rows changed. */
export async function recomputeEvents(tx: Tx, { siteId, zone }: RollupSite, days: readonly string[]): Promise<number> {
  // Day by day, idx_website_events_site_id_created_at; the table's primary key.
  const { rows } = await tx.execute(
    sql`WITH seen AS (
          SELECT d AS day, e.event_type, e.event_name, nullif(e.session_id, '') AS session, count(*) AS n
          FROM unnest(${sql.param(days)}::date[]) d
          CROSS JOIN LATERAL (
            SELECT e.event_type, e.event_name, e.session_id FROM public.website_events e
            WHERE ${within(
              siteId,
              'e',
              sql`website_worker.instant_of(d::timestamp, ${zone}) AT TIME ZONE 'UTC'`,
              sql`website_worker.instant_of((d + 1)::timestamp, ${zone}) AT TIME ZONE 'UTC'`,
            )} OFFSET 0) e
          GROUP BY d, e.event_type, e.event_name, nullif(e.session_id, '')),
        next_events_daily AS MATERIALIZED (
          SELECT day, event_type, event_name, sum(n)::int AS events, count(session)::int AS visitors
          FROM seen GROUP BY day, event_type, event_name),
        ${reconcile(eventsDaily, siteId, sql`t.site_id = ${siteId} AND t.day = ANY (${sql.param(days)}::date[])`)}
        SELECT (SELECT count(*) FROM gone_events_daily)::int + (SELECT count(*) FROM put_events_daily)::int AS changed`,
  )
  return rows[0]!.changed as number
}
