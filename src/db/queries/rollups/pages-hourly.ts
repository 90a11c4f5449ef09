import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { agentHash, pageKey, pathOf, within } from './pageview-parts.ts'
import { reconcile } from './reconcile.ts'
import type { TakenHours } from './take.ts'

const pageHourly = {
  table: 'page_hourly',
  key: ['hour', 'page_key'],
  values: ['page_id', 'page_path', 'pageviews', 'visitors'],
  isWhole: true,
}

/** Recomputes `page_hourly` of the hours that overlap hours of UTC. Returns how many rows changed. */
export async function recomputePagesHourly(
  tx: Tx,
  { siteId, zone }: { siteId: number; zone: string },
  { buckets, quarters }: Pick<TakenHours, 'buckets' | 'quarters'>,
): Promise<number> {
  // idx_website_pageviews_site_id_created_at, hour by hour; primary keys of user_agents and the table. Rows of a timezone
  // that the site had before begin at other quarters. Only where a clock is set within an hour need each row's be told. A
  // LATERAL lookup by user agent, unlike a join by its hash, is one that the planner may do once for each of them.
  const { rows } = await tx.execute(
    sql`WITH span AS MATERIALIZED (
          SELECT b AS hour, b AT TIME ZONE 'UTC' AS lo, b AT TIME ZONE 'UTC' + interval '1 hour' AS hi,
            date_trunc('hour', b, ${zone}) = b
              AND date_trunc('hour', b + interval '1 hour' - interval '1 microsecond', ${zone}) = b AS is_whole
          FROM unnest(${sql.param(buckets)}::timestamptz[]) b),
        seen AS (
          SELECT s.hour, p.page_id, ${pathOf(sql`p.page_url`)} AS path, nullif(p.session_id, '') AS session
          FROM span s
          CROSS JOIN LATERAL (
            SELECT p.page_id, p.page_url, p.session_id, p.user_agent, p.created_at FROM public.website_pageviews p
            WHERE ${within(siteId, 'p', sql`s.lo`, sql`s.hi`)} OFFSET 0) p
          LEFT JOIN LATERAL (
            SELECT a.is_bot FROM website_worker.user_agents a WHERE a.hash = ${agentHash(sql`p.user_agent`)} OFFSET 0) a ON true
          WHERE a.is_bot IS NOT TRUE AND (s.is_whole OR date_trunc('hour', p.created_at AT TIME ZONE 'UTC', ${zone}) = s.hour)),
        by_session AS (
          SELECT hour, page_id, path, session, count(*)::int AS n FROM seen GROUP BY hour, page_id, path, session OFFSET 0),
        next_page_hourly AS MATERIALIZED (
          SELECT hour, ${pageKey(sql`page_id`, sql`path`)}::uuid AS page_key, page_id, left(path, 1024)::varchar AS page_path,
            sum(n)::int AS pageviews, count(session)::int AS visitors
          FROM by_session GROUP BY hour, page_id, path),
        ${reconcile(pageHourly, siteId, sql`t.site_id = ${siteId} AND t.hour = ANY (${sql.param([...buckets, ...quarters])}::timestamptz[])`)}
        SELECT (SELECT count(*) FROM gone_page_hourly)::int + (SELECT count(*) FROM put_page_hourly)::int AS changed`,
  )
  return rows[0]!.changed as number
}
