import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { analyticsDimensions } from '../../../analytics-dimensions.ts'
import { agentHash, dimensionColumns, originOf, pageKey, pathOf, rawDimensions, within } from './pageview-parts.ts'
import { reconcile } from './reconcile.ts'
import type { RollupSite } from './site.ts'

const visits = {
  table: 'visits',
  key: ['session_id', 'started_at'],
  values: [
    'ended_at',
    'seconds',
    'pageviews',
    'entry_key',
    'entry_page_id',
    'entry_path',
    'exit_key',
    'exit_page_id',
    'exit_path',
    ...analyticsDimensions,
  ],
}

/** After so long without a pageview a visit is over. */
const idle = sql`interval '30 minutes'`
/** How far around what changed rows are read; more than `idle` only spares later roll-ups a second look. */
const around = sql`interval '2 hours'`
/** Visits longer than this have an index of their own. */
const long = sql`interval '6 hours'`

/**
 * Recomputes every visit that rows of some hours of UTC belong to, or belonged to when it was last computed: joined, split,
 * moved or gone. What is known of a session before and after stays connected: visits are computed again together with all
 * rows that are less than 30 minutes from them. A sealed visit stays, and takes no more. Returns the days of the site on
 * which visits that changed began.
 */
export async function recomputeVisits(tx: Tx, site: RollupSite, hours: readonly string[]): Promise<string[]> {
  const { siteId, zone, sealedUntil } = site
  const sealed = sql`(${sealedUntil}::timestamptz AT TIME ZONE 'UTC')`
  const nulls = (n: number) =>
    sql.join(
      Array.from({ length: n }, () => sql`NULL`),
      sql`, `,
    )
  const first = analyticsDimensions.map(
    (name) => sql`max(${sql.identifier(name)}) FILTER (WHERE is_first) AS ${sql.identifier(name)}`,
  )
  // Hours: idx_website_pageviews_site_id_created_at, website_analytics_visits_started and website_analytics_visits_long.
  // Sessions, one by one: website_analytics_visits_pkey and idx_website_pageviews_session_id. user_agents_pkey and
  // referrer_hosts_pkey.
  const { rows } = await tx.execute(
    sql`WITH hour AS MATERIALIZED (
          SELECT greatest(h AT TIME ZONE 'UTC', ${sealed}) AS lo, h AT TIME ZONE 'UTC' + interval '1 hour' AS hi
          FROM unnest(${sql.param(hours)}::timestamptz[]) h),
        touched AS MATERIALIZED (
          SELECT session, min(lo) AS lo, max(hi) AS hi FROM (
            SELECT p.session, p.lo, p.hi FROM hour h CROSS JOIN LATERAL (
              SELECT p.session_id AS session, min(p.created_at) AS lo, max(p.created_at) AS hi FROM public.website_pageviews p
              WHERE ${within(siteId, 'p', sql`h.lo`, sql`h.hi`)} AND p.session_id <> ''
              GROUP BY p.session_id OFFSET 0) p
            UNION ALL
            SELECT v.session, v.lo, v.hi FROM hour h CROSS JOIN LATERAL (
              SELECT v.session_id AS session, v.started_at AT TIME ZONE 'UTC' AS lo, v.ended_at AT TIME ZONE 'UTC' AS hi
              FROM public.website_analytics_visits v
              WHERE ${within(siteId, 'v', sql`(h.lo - ${long}) AT TIME ZONE 'UTC'`, sql`h.hi AT TIME ZONE 'UTC'`)}
                AND v.ended_at >= h.lo AT TIME ZONE 'UTC'
                AND v.started_at >= ${sealedUntil}::timestamptz
              UNION ALL
              SELECT v.session_id, v.started_at AT TIME ZONE 'UTC', v.ended_at AT TIME ZONE 'UTC'
              FROM public.website_analytics_visits v
              WHERE v.site_id = ${siteId} AND v.seconds > 21600 AND v.started_at < (h.lo - ${long}) AT TIME ZONE 'UTC'
                AND v.ended_at >= h.lo AT TIME ZONE 'UTC' AND v.started_at >= ${sealedUntil}::timestamptz
              OFFSET 0) v) t
          GROUP BY session),
        -- All of their visits in one go, and brought together without a join: both stay cheap however wrong the planner is.
        known AS MATERIALIZED (
          SELECT session, touched_lo, touched_hi, lo, hi, lo < ${sealed} AS is_sealed FROM (
            SELECT session, lo, hi, min(touched_lo) OVER w AS touched_lo, max(touched_hi) OVER w AS touched_hi FROM (
              SELECT session, lo AS touched_lo, hi AS touched_hi, NULL::timestamp AS lo, NULL::timestamp AS hi FROM touched
              UNION ALL
              SELECT v.session_id, NULL, NULL, v.started_at AT TIME ZONE 'UTC', v.ended_at AT TIME ZONE 'UTC'
              FROM public.website_analytics_visits v
              WHERE v.site_id = ${siteId} AND v.session_id = ANY (ARRAY(SELECT t.session FROM touched t))) u
            WINDOW w AS (PARTITION BY session)) k
          WHERE lo <= touched_hi + ${around} AND hi >= touched_lo - ${around}),
        span AS MATERIALIZED (
          SELECT session, min(touched_lo) AS touched_lo, max(touched_hi) AS touched_hi, min(lo) AS lo, max(hi) AS hi FROM (
            SELECT session, lo AS touched_lo, hi AS touched_hi, lo - ${around} AS lo, hi + ${around} AS hi FROM touched
            UNION ALL SELECT session, touched_lo, touched_hi, lo, hi FROM known) s
          GROUP BY session),
        view AS (
          SELECT s.session, s.touched_lo, s.touched_hi, p.created_at AS lo, p.created_at AS hi, false AS is_sealed, p.id,
            p.page_id, ${pathOf(sql`p.page_url`)} AS path, ${rawDimensions(sql`p`, sql`r`)}
          FROM span s
          CROSS JOIN LATERAL (
            SELECT p.* FROM public.website_pageviews p WHERE p.session_id = s.session OFFSET 0) p
          LEFT JOIN website_worker.user_agents a ON a.hash = ${agentHash(sql`p.user_agent`)}
          LEFT JOIN website_worker.referrer_hosts r ON r.origin = ${originOf(sql`p.referrer`)}
          WHERE p.site_id = ${siteId} AND p.created_at >= greatest(s.lo, ${sealed}) AND p.created_at <= s.hi
            AND a.is_bot IS NOT TRUE
          UNION ALL
          SELECT session, touched_lo, touched_hi, lo, hi, true, 0, NULL, '', ${sql.join(
            analyticsDimensions.map(() => sql`''`),
            sql`, `,
          )}
          FROM known WHERE is_sealed),
        first AS (
          SELECT *, coalesce(lo - max(hi) OVER (PARTITION BY session ORDER BY lo, id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) >= ${idle}, true) AS is_first FROM view),
        numbered AS (
          SELECT *, count(*) FILTER (WHERE is_first) OVER (PARTITION BY session ORDER BY lo, id ROWS UNBOUNDED PRECEDING) AS n,
            coalesce(lead(is_first) OVER (PARTITION BY session ORDER BY lo, id), true) AS is_last FROM first),
        island AS (
          SELECT session, n, min(touched_lo) AS touched_lo, max(touched_hi) AS touched_hi, min(lo) AS lo, max(hi) AS hi,
            bool_or(is_sealed) AS is_sealed, count(*)::int AS pageviews,
            max(page_id) FILTER (WHERE is_first) AS entry_page_id, max(path) FILTER (WHERE is_first) AS entry_path,
            max(page_id) FILTER (WHERE is_last) AS exit_page_id, max(path) FILTER (WHERE is_last) AS exit_path,
            ${sql.join(first, sql`, `)}
          FROM numbered GROUP BY session, n),
        -- What is computed and what was known before, as far as it is connected.
        mark AS (
          SELECT i.* FROM island i WHERE NOT i.is_sealed
          UNION ALL
          SELECT session, NULL, touched_lo, touched_hi, lo, hi, ${nulls(6 + analyticsDimensions.length)} FROM known WHERE NOT is_sealed),
        apart AS (
          SELECT *, coalesce(lo - max(hi) OVER (PARTITION BY session ORDER BY lo, n
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) >= ${idle}, true) AS is_first FROM mark),
        cluster AS (
          SELECT *, count(*) FILTER (WHERE is_first) OVER (PARTITION BY session ORDER BY lo, n ROWS UNBOUNDED PRECEDING) AS c
          FROM apart),
        changed AS MATERIALIZED (
          SELECT * FROM (
            SELECT *, min(lo) OVER w AS cluster_lo, max(hi) OVER w AS cluster_hi
            FROM cluster WINDOW w AS (PARTITION BY session, c)) c
          WHERE cluster_hi >= touched_lo AND cluster_lo <= touched_hi),
        next_visits AS MATERIALIZED (
          SELECT i.session AS session_id, i.lo AT TIME ZONE 'UTC' AS started_at, i.hi AT TIME ZONE 'UTC' AS ended_at,
            floor(extract(epoch FROM i.hi - i.lo))::int AS seconds, i.pageviews,
            ${pageKey(sql`i.entry_page_id`, sql`i.entry_path`)}::uuid AS entry_key, i.entry_page_id,
            left(i.entry_path, 1024)::varchar AS entry_path,
            ${pageKey(sql`i.exit_page_id`, sql`i.exit_path`)}::uuid AS exit_key, i.exit_page_id,
            left(i.exit_path, 1024)::varchar AS exit_path, ${dimensionColumns(sql`i`)}
          FROM changed i WHERE i.n IS NOT NULL),
        ${reconcile(
          visits,
          siteId,
          sql`t.ctid = ANY (ARRAY(
            SELECT v.ctid FROM changed c CROSS JOIN LATERAL (
              SELECT v.ctid FROM public.website_analytics_visits v
              WHERE v.site_id = ${siteId} AND v.session_id = c.session AND v.started_at = c.lo AT TIME ZONE 'UTC' OFFSET 0) v
            WHERE c.n IS NULL))`,
          sql`(started_at AT TIME ZONE ${zone})::date::text AS day`,
        )}
        SELECT day FROM gone_visits UNION SELECT day FROM put_visits`,
  )
  return rows.map((row) => row.day as string)
}
