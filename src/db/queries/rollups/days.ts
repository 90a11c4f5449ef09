import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { analyticsDimensions } from '../../../analytics-dimensions.ts'
import { agentHash, dimensionColumns, originOf, pageKey, pathOf, rawDimensions, within } from './pageview-parts.ts'
import { reconcile } from './reconcile.ts'
import type { RollupSite } from './site.ts'

const siteDaily = {
  table: 'site_daily',
  key: ['day'],
  values: ['pageviews', 'bot_pageviews', 'visitors', 'visits', 'bounces', 'visit_seconds'],
}
const pageDaily = {
  table: 'page_daily',
  key: ['day', 'page_key'],
  values: ['page_id', 'page_path', 'pageviews', 'visitors', 'entries', 'exits'],
}
const dimensionsDaily = {
  table: 'dimensions_daily',
  key: ['day', 'dimension', 'value'],
  values: ['pageviews', 'visitors', 'visits'],
}

/** A row for each dimension, of a row with all of them. */
const eachDimension = sql`CROSS JOIN LATERAL (VALUES ${sql.join(
  analyticsDimensions.map((name) => sql`(${sql.raw(`'${name}'`)}, x.${sql.identifier(name)})`),
  sql`, `,
)}) AS d (dimension, value)`

const ofDays = (siteId: number, days: readonly string[]) =>
  sql`t.site_id = ${siteId} AND t.day = ANY (${sql.param(days)}::date[])`

/**
 * Recomputes `site_daily`, `page_daily` and `dimensions_daily` of some days of a site, of its pageviews and visits. What a
 * session did is counted first, so that distinct visitors are counted without sorting. Returns how many rows changed.
 */
export async function recomputeDays(tx: Tx, site: RollupSite, days: readonly string[]): Promise<number> {
  const { siteId, zone } = site
  // Day by day, idx_website_pageviews_site_id_created_at and website_analytics_visits_started; primary keys of user_agents,
  // referrer_hosts and the tables.
  const { rows } = await tx.execute(
    sql`WITH span AS MATERIALIZED (
          SELECT d AS day, website_worker.instant_of(d::timestamp, ${zone}) AS lo,
            website_worker.instant_of((d + 1)::timestamp, ${zone}) AS hi
          FROM unnest(${sql.param(days)}::date[]) d),
        view AS (
          SELECT s.day, a.is_bot IS TRUE AS is_bot, nullif(p.session_id, '') AS session, p.page_id,
            ${pathOf(sql`p.page_url`)} AS path, ${rawDimensions(sql`p`, sql`r`)}
          FROM span s
          CROSS JOIN LATERAL (
            SELECT p.* FROM public.website_pageviews p
            WHERE ${within(siteId, 'p', sql`s.lo AT TIME ZONE 'UTC'`, sql`s.hi AT TIME ZONE 'UTC'`)} OFFSET 0) p
          LEFT JOIN website_worker.user_agents a ON a.hash = ${agentHash(sql`p.user_agent`)}
          LEFT JOIN website_worker.referrer_hosts r ON r.origin = ${originOf(sql`p.referrer`)}),
        seen AS MATERIALIZED (
          SELECT day, is_bot, session, page_id, path, ${dimensionColumns(sql`v`)}, count(*) AS n
          FROM view v GROUP BY day, is_bot, session, page_id, path, ${dimensionColumns(sql`v`)}),
        visit AS MATERIALIZED (
          SELECT s.day, v.* FROM span s CROSS JOIN LATERAL (
            SELECT v.* FROM public.website_analytics_visits v
            WHERE ${within(siteId, 'v', sql`s.lo`, sql`s.hi`)} OFFSET 0) v),

        next_site_daily AS MATERIALIZED (
          SELECT day, sum(pageviews)::int AS pageviews, sum(bot_pageviews)::int AS bot_pageviews, sum(visitors)::int AS visitors,
            sum(visits)::int AS visits, sum(bounces)::int AS bounces, sum(visit_seconds)::bigint AS visit_seconds
          FROM (
            SELECT day, sum(n) AS pageviews, 0 AS bot_pageviews, count(session) AS visitors, 0 AS visits, 0 AS bounces,
              0 AS visit_seconds
            FROM (SELECT day, session, sum(n) AS n FROM seen WHERE NOT is_bot GROUP BY day, session) x GROUP BY day
            UNION ALL
            SELECT day, 0, sum(n), 0, 0, 0, 0 FROM seen WHERE is_bot GROUP BY day
            UNION ALL
            SELECT day, 0, 0, 0, count(*), count(*) FILTER (WHERE pageviews = 1), sum(seconds) FROM visit GROUP BY day) u
          GROUP BY day),
        ${reconcile(siteDaily, siteId, ofDays(siteId, days))},

        next_page_daily AS MATERIALIZED (
          SELECT day, page_key, max(page_id) AS page_id, max(page_path)::varchar AS page_path, sum(pageviews)::int AS pageviews,
            sum(visitors)::int AS visitors, sum(entries)::int AS entries, sum(exits)::int AS exits
          FROM (
            SELECT day, ${pageKey(sql`page_id`, sql`path`)}::uuid AS page_key, page_id, left(path, 1024) AS page_path,
              sum(n) AS pageviews, count(session) AS visitors, 0 AS entries, 0 AS exits
            FROM (
              SELECT day, page_id, path, session, sum(n) AS n FROM seen WHERE NOT is_bot GROUP BY day, page_id, path, session) x
            GROUP BY day, page_id, path
            UNION ALL
            SELECT day, entry_key, entry_page_id, entry_path, 0, 0, count(*), 0 FROM visit
            GROUP BY day, entry_key, entry_page_id, entry_path
            UNION ALL
            SELECT day, exit_key, exit_page_id, exit_path, 0, 0, 0, count(*) FROM visit
            GROUP BY day, exit_key, exit_page_id, exit_path) u
          GROUP BY day, page_key),
        ${reconcile(pageDaily, siteId, ofDays(siteId, days))},

        next_dimensions_daily AS MATERIALIZED (
          SELECT day, dimension::varchar AS dimension, value::varchar AS value, sum(pageviews)::int AS pageviews,
            sum(visitors)::int AS visitors, sum(visits)::int AS visits
          FROM (
            SELECT day, dimension, value, sum(n) AS pageviews, count(session) AS visitors, 0 AS visits
            FROM (
              SELECT x.day, d.dimension, d.value, x.session, sum(x.n) AS n FROM (
                SELECT day, session, ${dimensionColumns(sql`s`)}, sum(n) AS n FROM seen s WHERE NOT is_bot
                GROUP BY day, session, ${dimensionColumns(sql`s`)}) x
              ${eachDimension} GROUP BY x.day, d.dimension, d.value, x.session) y
            GROUP BY day, dimension, value
            UNION ALL
            SELECT x.day, d.dimension, d.value, 0, 0, count(*) FROM visit x ${eachDimension}
            GROUP BY x.day, d.dimension, d.value) u
          GROUP BY day, dimension, value),
        ${reconcile(
          dimensionsDaily,
          siteId,
          sql`${ofDays(siteId, days)} AND t.dimension IN (${sql.join(
            analyticsDimensions.map((name) => sql`${name}`),
            sql`, `,
          )})`,
        )}
        SELECT (SELECT count(*) FROM gone_site_daily)::int + (SELECT count(*) FROM put_site_daily)::int
          + (SELECT count(*) FROM gone_page_daily)::int + (SELECT count(*) FROM put_page_daily)::int
          + (SELECT count(*) FROM gone_dimensions_daily)::int + (SELECT count(*) FROM put_dimensions_daily)::int AS changed`,
  )
  return rows[0]!.changed as number
}
