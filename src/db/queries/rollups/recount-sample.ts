import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../../client.ts'

/** A site whose rollups are counted again. */
export interface RecountedSite {
  siteId: number
  zone: string
}

/** What of a site is counted again: days, and instants at which hours begin. */
export interface Sample {
  days: string[]
  hours: string[]
}

/** Sites that are rolled up, in any order. */
export async function listRolledUp(db: Db, most: number): Promise<RecountedSite[]> {
  // A row per site; website_sites_pkey.
  const { rows } = await db.execute(
    sql`SELECT r.site_id AS "siteId", coalesce(website_worker.zone_of(s.timezone), 'UTC') AS zone
        FROM website_worker.rollup_sites r JOIN public.website_sites s ON s.id = r.site_id
        WHERE r.rolled_through IS NOT NULL AND website_worker.hold_reason('rollups', r.site_id) IS NULL
        ORDER BY random() LIMIT ${most}`,
  )
  return rows as unknown as RecountedSite[]
}

/**
 * Draws some days and hours of a site: half of them of the last week. They are such as were rolled up, and one of those since
 * the domain was switched, since when every one is to be. A day with more page views than `mostViews` is left to the hours.
 */
export async function drawSample(
  db: Db,
  { siteId, zone }: RecountedSite,
  { days, hours, mostViews }: { days: number; hours: number; mostViews: number },
): Promise<Sample> {
  // Primary keys of site_daily, page_hourly and domains: first, last, and the next one from any point on.
  const { rows } = await db.execute(
    sql`WITH reach AS MATERIALIZED (
          SELECT (SELECT min(day) FROM public.website_analytics_site_daily WHERE site_id = ${siteId}) AS first,
            (SELECT max(day) FROM public.website_analytics_site_daily WHERE site_id = ${siteId}) AS last,
            (now() AT TIME ZONE ${zone})::date AS today,
            (SELECT (d.changed_at AT TIME ZONE ${zone})::date + 1 FROM website_worker.domains d
             WHERE d.domain = 'rollups' AND d.site_id IN (0, ${siteId}) ORDER BY d.site_id DESC LIMIT 1) AS switched),
        point AS MATERIALIZED (
          SELECT n, CASE WHEN n % 2 = 0 THEN greatest(r.first, r.last - 6) ELSE r.first END AS low, r.last, random() AS r
          FROM reach r, generate_series(1, ${Math.max(days, hours)}::int) n WHERE r.first IS NOT NULL)
        SELECT
          ARRAY(SELECT DISTINCT d.day::text FROM (
              SELECT f.day FROM point p CROSS JOIN LATERAL (
                SELECT s.day FROM public.website_analytics_site_daily s
                WHERE s.site_id = ${siteId} AND s.day >= p.low + floor(p.r * (p.last - p.low + 1))::int ORDER BY s.day LIMIT 1) f
              WHERE p.n <= ${days}
              UNION ALL
              SELECT r.switched + floor(random() * (r.today - r.switched + 1))::int FROM reach r WHERE r.switched <= r.today) d
            WHERE NOT EXISTS (SELECT FROM public.website_analytics_site_daily s
              WHERE s.site_id = ${siteId} AND s.day = d.day AND s.pageviews + s.bot_pageviews > ${mostViews})) AS days,
          ARRAY(SELECT DISTINCT f.hour::text FROM point p CROSS JOIN LATERAL (
              SELECT h.hour FROM public.website_analytics_page_hourly h
              WHERE h.site_id = ${siteId}
                AND h.hour >= website_worker.instant_of(p.low::timestamp, ${zone}) + p.r * (p.last - p.low + 1) * interval '1 day'
              ORDER BY h.hour LIMIT 1) f
            WHERE p.n <= ${hours}) AS hours`,
  )
  return rows[0] as unknown as Sample
}

/** Whether a span of a site is as its rollups should be in this snapshot: not sealed, and nothing waits to be computed. */
export async function isSettled(tx: Tx, { siteId, zone }: RecountedSite, from: string, days: number): Promise<boolean> {
  // Primary keys; analytics_dirty_pkey. A visit may have begun the day before, or go on for two more; what was begun before
  // the seal goes on as it was.
  const { rows } = await tx.execute(
    sql`SELECT r.timezone = coalesce(s.timezone, '') AND b.lo - interval '1 day' >= coalesce(r.sealed_before, '-infinity')
          AND NOT EXISTS (SELECT FROM website_worker.analytics_dirty d WHERE d.site_id = r.site_id
                            AND (d.hour = '-infinity' OR d.hour BETWEEN b.lo - interval '1 day' AND b.hi + interval '2 days')) AS settled
        FROM website_worker.rollup_sites r JOIN public.website_sites s ON s.id = r.site_id
        CROSS JOIN LATERAL (
          SELECT website_worker.instant_of(${from}::timestamp, ${zone}) AS lo,
            website_worker.instant_of(${from}::timestamp, ${zone}) + ${days} * interval '1 day' AS hi OFFSET 0) b
        WHERE r.site_id = ${siteId}`,
  )
  return (rows[0]?.settled as boolean | undefined) ?? false
}
