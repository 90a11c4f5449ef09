import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { originOf } from './pageview-parts.ts'

/** Rows of a table that differ from what a plain recount says, of a bucket: a day of the site, or the hour it begins at. */
export interface Drift {
  table: string
  bucket: string
  rows: number
}

/** How far behind a day its last visits are followed. */
const tail = sql`interval '12 hours'`

const differing = (counted: string, kept: ReturnType<typeof sql>) => sql`(
  SELECT count(*)::int FROM (
    (SELECT * FROM ${sql.identifier(counted)} EXCEPT ALL ${kept}) UNION ALL
    (${kept} EXCEPT ALL SELECT * FROM ${sql.identifier(counted)})) d)`

/**
 * Counts a day of a site again from its raw rows, as plainly as can be, and compares. What the roll-up is made of isn't used,
 * but for what a path, a bot and a referrer's host are. Nothing is said of a day whose visits go on for half a day.
 */
export async function recountDay(tx: Tx, siteId: number, zone: string, day: string): Promise<Drift[]> {
  // idx_website_pageviews_site_id_created_at and idx_website_events_site_id_created_at over a day and a half; primary keys of
  // user_agents, referrer_hosts and the rollups; website_analytics_visits_started.
  const { rows } = await tx.execute(
    sql`WITH bounds AS MATERIALIZED (
          SELECT website_worker.instant_of(${day}::date::timestamp, ${zone}) AT TIME ZONE 'UTC' AS lo,
            website_worker.instant_of((${day}::date + 1)::timestamp, ${zone}) AT TIME ZONE 'UTC' AS hi),
        raw AS MATERIALIZED (
          SELECT p.id, p.created_at AS at, p.created_at >= b.lo AND p.created_at < b.hi AS in_day, nullif(p.session_id, '') AS session,
            p.page_id, website_worker.path_of(p.page_url) AS path, coalesce(a.is_bot, false) AS is_bot,
            coalesce(r.host, '') AS referrer_host, coalesce(p.utm_source, '') AS utm_source, coalesce(p.utm_medium, '') AS utm_medium,
            coalesce(p.utm_campaign, '') AS utm_campaign, coalesce(p.utm_term, '') AS utm_term,
            coalesce(p.utm_content, '') AS utm_content, coalesce(p.country, '') AS country,
            coalesce(p.device_type, '') AS device_type, coalesce(p.browser, '') AS browser
          FROM bounds b
          JOIN public.website_pageviews p ON p.site_id = ${siteId} AND p.created_at >= b.lo - interval '30 minutes'
            AND p.created_at < b.hi + ${tail}
          LEFT JOIN website_worker.user_agents a ON a.hash = md5(p.user_agent)::uuid
          LEFT JOIN website_worker.referrer_hosts r ON r.origin = ${originOf(sql`p.referrer`)}),
        viewed AS (SELECT * FROM raw WHERE in_day AND NOT is_bot),
        step AS (
          SELECT *, CASE WHEN at < lag(at) OVER w + interval '30 minutes' THEN 0 ELSE 1 END AS begins
          FROM raw WHERE NOT is_bot AND session IS NOT NULL WINDOW w AS (PARTITION BY session ORDER BY at, id)),
        numbered AS (SELECT *, sum(begins) OVER (PARTITION BY session ORDER BY at, id) AS n FROM step),
        visit AS MATERIALIZED (
          SELECT v.*, count(*) OVER w AS pageviews, max(at) OVER w AS ended, row_number() OVER (w ORDER BY at DESC, id DESC) AS from_end
          FROM numbered v WINDOW w AS (PARTITION BY session, n)),
        begun AS MATERIALIZED (SELECT * FROM visit WHERE begins = 1 AND in_day),
        ended AS (
          SELECT v.session, v.n, v.page_id, v.path FROM visit v JOIN begun g USING (session, n) WHERE v.from_end = 1),

        site AS (
          SELECT count(*) FILTER (WHERE NOT is_bot) AS pageviews, count(*) FILTER (WHERE is_bot) AS bots,
            count(DISTINCT session) FILTER (WHERE NOT is_bot) AS visitors, (SELECT count(*) FROM begun) AS visits,
            (SELECT count(*) FROM begun WHERE pageviews = 1) AS bounces,
            (SELECT coalesce(sum(floor(extract(epoch FROM ended - at))), 0)::bigint FROM begun) AS seconds
          FROM raw WHERE in_day HAVING count(*) > 0),
        page AS (
          SELECT page_id, left(path, 1024) AS path, sum(views) AS views, sum(visitors) AS visitors, sum(entries) AS entries,
            sum(exits) AS exits
          FROM (
            SELECT page_id, path, count(*) AS views, count(DISTINCT session) AS visitors, 0 AS entries, 0 AS exits FROM viewed GROUP BY 1, 2
            UNION ALL SELECT page_id, path, 0, 0, count(*), 0 FROM begun GROUP BY 1, 2
            UNION ALL SELECT page_id, path, 0, 0, 0, count(*) FROM ended GROUP BY 1, 2) p
          GROUP BY 1, 2),
        dimension AS (
          SELECT d.dimension, d.value, count(*) FILTER (WHERE x.is_view) AS views,
            count(DISTINCT x.session) FILTER (WHERE x.is_view) AS visitors, count(*) FILTER (WHERE NOT x.is_view) AS visits
          FROM (
            SELECT true AS is_view, session, referrer_host, utm_source, utm_medium, utm_campaign, utm_term, utm_content, country,
              device_type, browser FROM viewed
            UNION ALL
            SELECT false, session, referrer_host, utm_source, utm_medium, utm_campaign, utm_term, utm_content, country,
              device_type, browser FROM begun) x
          CROSS JOIN LATERAL (VALUES ('referrer_host', x.referrer_host), ('utm_source', x.utm_source), ('utm_medium', x.utm_medium),
            ('utm_campaign', x.utm_campaign), ('utm_term', x.utm_term), ('utm_content', x.utm_content), ('country', x.country),
            ('device_type', x.device_type), ('browser', x.browser)) AS d (dimension, value)
          GROUP BY 1, 2),
        event AS (
          SELECT e.event_type, e.event_name, count(*) AS events, count(DISTINCT nullif(e.session_id, '')) AS visitors
          FROM bounds b JOIN public.website_events e ON e.site_id = ${siteId} AND e.created_at >= b.lo AND e.created_at < b.hi
          GROUP BY 1, 2),
        stay AS (
          SELECT b.session, b.at AT TIME ZONE 'UTC' AS began, b.ended AT TIME ZONE 'UTC' AS ended, b.pageviews,
            left(b.path, 1024) AS entry_path, left(e.path, 1024) AS exit_path
          FROM begun b JOIN ended e USING (session, n))
        SELECT
          EXISTS (SELECT FROM begun, bounds WHERE begun.ended >= bounds.hi + ${tail} - interval '30 minutes') AS "goesOn",
          ${differing('site', sql`SELECT pageviews, bot_pageviews, visitors, visits, bounces, visit_seconds FROM public.website_analytics_site_daily WHERE site_id = ${siteId} AND day = ${day}::date`)} AS site_daily,
          ${differing('page', sql`SELECT page_id, page_path, sum(pageviews), sum(visitors), sum(entries), sum(exits) FROM public.website_analytics_page_daily WHERE site_id = ${siteId} AND day = ${day}::date GROUP BY page_id, page_path`)} AS page_daily,
          ${differing('dimension', sql`SELECT dimension, value, pageviews, visitors, visits FROM public.website_analytics_dimensions_daily WHERE site_id = ${siteId} AND day = ${day}::date`)} AS dimensions_daily,
          ${differing('event', sql`SELECT event_type, event_name, events, visitors FROM public.website_analytics_events_daily WHERE site_id = ${siteId} AND day = ${day}::date`)} AS events_daily,
          ${differing(
            'stay',
            sql`SELECT v.session_id, v.started_at, v.ended_at, v.pageviews, v.entry_path, v.exit_path FROM bounds b, public.website_analytics_visits v
                WHERE v.site_id = ${siteId} AND v.started_at >= b.lo AT TIME ZONE 'UTC' AND v.started_at < b.hi AT TIME ZONE 'UTC'`,
          )} AS visits`,
  )
  const { goesOn, ...tables } = rows[0] as { goesOn: boolean } & Record<string, number>
  if (goesOn) return []
  return Object.entries(tables).flatMap(([table, rows]) => (rows === 0 ? [] : [{ table, bucket: day, rows }]))
}

/** The same for an hour of `page_hourly`, by the instant at which it begins. */
export async function recountHour(tx: Tx, siteId: number, zone: string, hour: string): Promise<Drift[]> {
  // idx_website_pageviews_site_id_created_at; primary keys of user_agents and website_analytics_page_hourly.
  const { rows } = await tx.execute(
    sql`WITH page AS (
          SELECT p.page_id, website_worker.path_of(p.page_url) AS path, count(*) AS views,
            count(DISTINCT nullif(p.session_id, '')) AS visitors
          FROM public.website_pageviews p
          LEFT JOIN website_worker.user_agents a ON a.hash = md5(p.user_agent)::uuid
          WHERE p.site_id = ${siteId} AND p.created_at >= ${hour}::timestamptz AT TIME ZONE 'UTC'
            AND p.created_at < ${hour}::timestamptz AT TIME ZONE 'UTC' + interval '1 hour' AND a.is_bot IS NOT TRUE
            AND date_trunc('hour', p.created_at AT TIME ZONE 'UTC', ${zone}) = ${hour}::timestamptz
          GROUP BY 1, 2),
        listed AS (SELECT page_id, left(path, 1024) AS path, sum(views) AS views, sum(visitors) AS visitors FROM page GROUP BY 1, 2)
        SELECT ${differing('listed', sql`SELECT page_id, page_path, sum(pageviews), sum(visitors) FROM public.website_analytics_page_hourly WHERE site_id = ${siteId} AND hour = ${hour}::timestamptz GROUP BY page_id, page_path`)} AS rows`,
  )
  const differ = rows[0]!.rows as number
  return differ === 0 ? [] : [{ table: 'page_hourly', bucket: hour, rows: differ }]
}
