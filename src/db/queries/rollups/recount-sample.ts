import { sql, type SQL } from 'drizzle-orm'
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

/** A day of a site, or the instant at which an hour begins. */
export type Bucket = { day: string } | { hour: string }

/** Where a bucket begins. */
const startOf = (bucket: Bucket, zone: string): SQL =>
  'day' in bucket
    ? sql`website_worker.instant_of(${bucket.day}::date::timestamp, ${zone})`
    : sql`${bucket.hour}::timestamptz`

/** Whether a bucket is as it should be in this snapshot: not sealed, and nothing near it waits to be computed. */
export async function isSettled(tx: Tx, { siteId, zone }: RecountedSite, bucket: Bucket): Promise<boolean> {
  // Primary keys; analytics_dirty_pkey. A visit may have begun the day before, or go on for two more; what began before the
  // seal goes on as it was.
  const { rows } = await tx.execute(
    sql`SELECT r.timezone = coalesce(s.timezone, '') AND b.lo - interval '1 day' >= coalesce(r.sealed_before + interval '1 day', '-infinity')
          AND NOT EXISTS (
            SELECT FROM website_worker.analytics_dirty d WHERE d.site_id = r.site_id
              AND (d.hour = '-infinity' OR d.hour BETWEEN b.lo - interval '1 day' AND b.lo + interval '3 days')) AS settled
        FROM website_worker.rollup_sites r JOIN public.website_sites s ON s.id = r.site_id
        CROSS JOIN LATERAL (SELECT ${startOf(bucket, zone)} AS lo OFFSET 0) b
        WHERE r.site_id = ${siteId}`,
  )
  return (rows[0]?.settled as boolean | undefined) ?? false
}

/** Has a bucket computed again: all hours of UTC that it overlaps. */
export async function dirtyBucket(db: Db, { siteId, zone }: RecountedSite, bucket: Bucket): Promise<void> {
  const lo = startOf(bucket, zone)
  const hi =
    'day' in bucket
      ? sql`website_worker.instant_of((${bucket.day}::date + 1)::timestamp, ${zone})`
      : sql`${bucket.hour}::timestamptz + interval '1 hour'`
  await db.execute(
    sql`INSERT INTO website_worker.analytics_dirty (site_id, hour, kind)
        SELECT ${siteId}::int, h, k FROM generate_series(date_trunc('hour', ${lo}, 'UTC'), ${hi} - interval '1 ms', '1 hour') h,
          unnest(ARRAY['pageviews', 'events']) k`,
  )
}
