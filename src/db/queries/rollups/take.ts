import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { within } from './pageview-parts.ts'
import type { RollupSite } from './site.ts'

/** Hours whose rows changed, taken from the log; instants and days as Postgres writes them. */
export interface TakenHours {
  /** Hours of UTC. */
  hours: string[]
  /** The hours of the site that overlap them. */
  buckets: string[]
  /** Their quarters, at which any hour of any timezone begins. */
  quarters: string[]
  /** The days of the site that they belong to. */
  days: string[]
}

export interface Taken {
  /** Hours up to this one are left; null when there was none to take. */
  through: string | null
  pageviews: TakenHours
  events: TakenHours
  /** Rows that came for hours that are sealed. */
  late: number
}

const none = (): TakenHours => ({ hours: [], buckets: [], quarters: [], days: [] })

/** Which hours are taken: instants. */
export interface TakeScope {
  /** Up to this one. */
  through: string
  /** Not when the newest is before this one. */
  from: string
  /** So many days of the site, the newest included. */
  days: number
}

/**
 * Takes the newest hours from a site's log. What is committed when the statement begins is taken; the rows that it stands
 * for are seen by every later statement of the transaction.
 */
export async function takeDirtyHours(tx: Tx, site: RollupSite, { through, from, days }: TakeScope): Promise<Taken> {
  const { siteId, zone, sealedUntil } = site
  // analytics_dirty_pkey, from its end; analytics_late_pkey.
  const { rows } = await tx.execute(
    sql`WITH since AS MATERIALIZED (
          SELECT website_worker.instant_of(((max(d.hour) AT TIME ZONE ${zone})::date - ${days - 1}::int)::timestamp, ${zone})
            - interval '1 hour' AS at
          FROM website_worker.analytics_dirty d
          WHERE d.site_id = ${siteId} AND d.hour > '-infinity' AND d.hour >= ${from} AND d.hour <= ${through}),
        taken AS (
          DELETE FROM website_worker.analytics_dirty d
          WHERE d.site_id = ${siteId} AND d.hour > (SELECT at FROM since) AND d.hour <= ${through} RETURNING d.kind, d.hour, d.rows),
        hours AS MATERIALIZED (SELECT kind, hour, sum(rows) AS rows FROM taken GROUP BY kind, hour),
        late AS (
          INSERT INTO website_worker.analytics_late AS l (site_id, day, kind, rows)
          SELECT ${siteId}, (hour AT TIME ZONE 'UTC')::date, kind, sum(rows) FROM hours
          WHERE hour + interval '1 hour' <= ${sealedUntil}::timestamptz AND rows > 0 GROUP BY 2, 3
          ON CONFLICT (site_id, day, kind) DO UPDATE SET rows = l.rows + excluded.rows)
        SELECT h.kind, array_agg(DISTINCT h.hour::text) AS hours,
          array_agg(DISTINCT date_trunc('hour', q.at, ${zone})::text) AS buckets,
          array_agg(DISTINCT q.at::text) AS quarters,
          array_agg(DISTINCT ((q.at AT TIME ZONE ${zone})::date)::text) AS days, 0::int AS late, NULL AS through
        FROM hours h CROSS JOIN LATERAL (
          SELECT h.hour + m * interval '1 minute' AS at FROM unnest(ARRAY[0, 15, 30, 45]) m) q
        WHERE q.at >= ${sealedUntil}::timestamptz
        GROUP BY h.kind
        UNION ALL
        SELECT NULL, NULL, NULL, NULL, NULL, coalesce(sum(rows), 0)::int, (SELECT at::text FROM since) FROM hours
        WHERE hour + interval '1 hour' <= ${sealedUntil}::timestamptz AND rows > 0`,
  )
  const of = (kind: string) => (rows.find((row) => row.kind === kind) as TakenHours | undefined) ?? none()
  const { late, through: left } = rows.find((row) => row.kind === null) as { late: number; through: string | null }
  return { through: left, pageviews: of('pageviews'), events: of('events'), late }
}

/** What of a site is to be computed again: hours of UTC from one instant to another. */
export interface DirtyRange {
  from: string
  to: string
}

/** All there is. */
export const always: DirtyRange = { from: '-infinity', to: 'infinity' }

/**
 * Notes for the next roll-ups every hour of a range in which there are rows, or rollups that may be stale; what is sealed
 * is left out. Returns how many hours.
 */
export async function markRange(
  tx: Tx,
  { siteId, sealedUntil, zone }: RollupSite,
  { from, to }: DirtyRange,
  kinds: readonly ('pageviews' | 'events')[] = ['pageviews', 'events'],
): Promise<number> {
  const lo = sql`greatest(${from}::timestamptz, ${sealedUntil}::timestamptz, '1970-01-02T00:00:00Z')`
  const hi = sql`least(${to}::timestamptz, '2999-01-01T00:00:00Z')`
  const raw = (table: 'website_pageviews' | 'website_events', kind: string) => {
    const first = (after: ReturnType<typeof sql>) => sql`(
      SELECT date_trunc('hour', p.created_at) FROM public.${sql.identifier(table)} p
      WHERE ${within(siteId, 'p', after, sql`${hi} AT TIME ZONE 'UTC'`)}
      ORDER BY p.site_id, p.created_at LIMIT 1)`
    return sql`(
      WITH RECURSIVE step (hour) AS (
        SELECT ${first(sql`${lo} AT TIME ZONE 'UTC'`)}
        UNION ALL
        SELECT ${first(sql`a.hour + interval '1 hour'`)} FROM step a WHERE a.hour IS NOT NULL)
      SELECT ${kind} AS kind, hour AT TIME ZONE 'UTC' AS hour FROM step WHERE hour IS NOT NULL)`
  }
  const start = (day: ReturnType<typeof sql>) => sql`website_worker.instant_of((${day})::timestamp, ${zone})`
  // From hour to hour by idx_website_pageviews_site_id_created_at and idx_website_events_site_id_created_at: however many
  // rows one has, it is one look. Primary keys of the rollups.
  const { rows } = await tx.execute(
    sql`WITH found AS (
          ${raw('website_pageviews', 'pageviews')} UNION ALL ${raw('website_events', 'events')}
          UNION ALL SELECT 'pageviews', hour FROM public.website_analytics_page_hourly WHERE site_id = ${siteId}
            AND hour >= ${lo} AND hour < ${hi}
          UNION ALL SELECT 'pageviews', started_at FROM public.website_analytics_visits WHERE site_id = ${siteId}
            AND started_at >= ${lo} AND started_at < ${hi}
          UNION ALL SELECT 'pageviews', ${start(sql`day`)} FROM public.website_analytics_site_daily WHERE site_id = ${siteId}
            AND day >= (${lo} AT TIME ZONE ${zone})::date AND day <= (${hi} AT TIME ZONE ${zone})::date
          UNION ALL SELECT 'events', ${start(sql`day`)} FROM public.website_analytics_events_daily WHERE site_id = ${siteId}
            AND day >= (${lo} AT TIME ZONE ${zone})::date AND day <= (${hi} AT TIME ZONE ${zone})::date),
        marked AS (
          INSERT INTO website_worker.analytics_dirty (site_id, hour, kind)
          SELECT DISTINCT ${siteId}::int, date_trunc('hour', hour, 'UTC'), kind FROM found
          WHERE kind = ANY (${sql.param(kinds)}::text[]) ORDER BY 2 DESC RETURNING 1)
        SELECT count(*)::int AS n FROM marked`,
  )
  return rows[0]!.n as number
}
