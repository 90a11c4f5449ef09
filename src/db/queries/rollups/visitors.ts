import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { within } from './pageview-parts.ts'
import { reconcile } from './reconcile.ts'
import type { RollupSite } from './site.ts'

const visitors = { table: 'visitors', key: ['period', 'ends_on'], values: ['visitors'] }

/** Days that one transaction computes. */
const mostDays = 92

/**
 * Recomputes the visitors of periods, from the first day on that visits changed on, a quarter at a time. A visit touches
 * every day from its first to its last, since no two of its pageviews are 30 minutes apart; so a session that was there on
 * some days is in every period that holds one of them: from each day on for as long as the period is, or until the
 * session's next day. Sums over where that begins and ends cost one look at each visit, however long the period.
 * Returns whether there is more to do.
 */
export async function recomputeVisitors(tx: Tx, { siteId, zone }: RollupSite): Promise<boolean> {
  // rollup_sites_pkey; website_analytics_visits_started, and website_analytics_visits_long for those that began before;
  // website_analytics_visitors_pkey.
  const { rows } = await tx.execute(
    sql`WITH scope AS MATERIALIZED (
          SELECT r.visitors_from AS since, r.visitors_from + ${mostDays - 1}::int AS until,
            date_trunc('month', r.visitors_from::timestamp)::date AS month_since,
            (date_trunc('month', (r.visitors_from + ${mostDays - 1}::int)::timestamp) + interval '1 month - 1 day')::date AS month_until
          FROM website_worker.rollup_sites r WHERE r.site_id = ${siteId}),
        read AS MATERIALIZED (
          SELECT website_worker.instant_of((least(since - 29, month_since))::timestamp, ${zone}) AS lo,
            website_worker.instant_of((month_until + 1)::timestamp, ${zone}) AS hi FROM scope),
        visit AS (
          SELECT v.session_id, (v.started_at AT TIME ZONE ${zone})::date AS first, (v.ended_at AT TIME ZONE ${zone})::date AS last
          FROM read r CROSS JOIN LATERAL (
            SELECT v.session_id, v.started_at, v.ended_at FROM public.website_analytics_visits v
            WHERE ${within(siteId, 'v', sql`r.lo - interval '6 hours'`, sql`r.hi`)}
            UNION ALL
            SELECT v.session_id, v.started_at, v.ended_at FROM public.website_analytics_visits v
            WHERE v.site_id = ${siteId} AND v.seconds > 21600 AND v.started_at < r.lo - interval '6 hours' AND v.ended_at >= r.lo
            OFFSET 0) v),
        there AS MATERIALIZED (
          SELECT session_id, day, lead(day) OVER (PARTITION BY session_id ORDER BY day) AS next
          FROM (SELECT DISTINCT v.session_id, v.first + g AS day FROM visit v
                CROSS JOIN LATERAL generate_series(0, v.last - v.first) g) d),
        step AS (
          SELECT p.period, e.on_day, sum(e.n) AS n
          FROM there t
          CROSS JOIN (VALUES ('7d', 7), ('30d', 30)) AS p (period, days)
          CROSS JOIN LATERAL (VALUES (t.day, 1), (least(t.day + p.days, t.next), -1)) AS e (on_day, n)
          GROUP BY p.period, e.on_day),
        total AS (
          SELECT period, on_day, sum(n) OVER w AS visitors, lead(on_day) OVER w AS until
          FROM step WINDOW w AS (PARTITION BY period ORDER BY on_day)),
        next_visitors AS MATERIALIZED (
          SELECT t.period::varchar AS period, d.day AS ends_on, t.visitors::int AS visitors
          FROM total t CROSS JOIN scope s
          CROSS JOIN LATERAL (
            SELECT greatest(t.on_day, s.since) + g AS day
            FROM generate_series(0, least(t.until - 1, s.until) - greatest(t.on_day, s.since)) g) d
          WHERE t.visitors > 0
          UNION ALL
          SELECT 'month', m.ends_on, count(*)::int FROM (
            SELECT DISTINCT t.session_id, (date_trunc('month', t.day::timestamp) + interval '1 month - 1 day')::date AS ends_on
            FROM there t) m CROSS JOIN scope s
          WHERE m.ends_on >= s.since AND m.ends_on <= s.month_until GROUP BY m.ends_on),
        ${reconcile(
          visitors,
          siteId,
          sql`t.site_id = ${siteId} AND ((t.period IN ('7d', '30d') AND t.ends_on BETWEEN (SELECT since FROM scope) AND (SELECT until FROM scope))
            OR (t.period = 'month' AND t.ends_on BETWEEN (SELECT since FROM scope) AND (SELECT month_until FROM scope)))`,
        )},
        rest AS MATERIALIZED (
          SELECT s.until + 1 AS after, least(
            (SELECT min(v.ends_on) FROM public.website_analytics_visitors v
             WHERE v.site_id = ${siteId} AND v.period IN ('7d', '30d', 'month') AND v.ends_on > s.until),
            (SELECT min(v.started_at) AT TIME ZONE ${zone} FROM public.website_analytics_visits v
             WHERE v.site_id = ${siteId} AND v.started_at >= website_worker.instant_of((s.until - 29)::timestamp, ${zone}))::date,
            (SELECT s.until + 1 FROM public.website_analytics_visits v
             WHERE v.site_id = ${siteId} AND v.seconds > 21600
               AND v.started_at < website_worker.instant_of((s.until - 29)::timestamp, ${zone})
               AND v.ended_at >= website_worker.instant_of((s.until - 29)::timestamp, ${zone}) LIMIT 1)) AS day
          FROM scope s)
        UPDATE website_worker.rollup_sites r SET visitors_from = CASE WHEN t.day IS NOT NULL THEN greatest(t.after, t.day) END
        FROM rest t WHERE r.site_id = ${siteId} AND r.visitors_from IS NOT NULL
        RETURNING r.visitors_from IS NOT NULL AS "isMore"`,
  )
  return (rows[0]?.isMore as boolean | undefined) ?? false
}

/** When visitors of periods may be computed again, ms from now. */
export async function putOffVisitors(tx: Tx, siteId: number, waitMs: number): Promise<void> {
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.rollup_sites SET visitors_next_at = clock_timestamp() + ${waitMs} * interval '1 ms'
        WHERE site_id = ${siteId}`,
  )
}
