import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'

/** A site that is being rolled up; its row is locked until the transaction ends. */
export interface RollupSite {
  siteId: number
  /** Timezone whose hours and days are counted. */
  zone: string
  /** The site names a timezone that Postgres doesn't know; UTC is counted instead. */
  unknownZone: string | null
  /** The timezone is another than at the last roll-up. */
  zoneChanged: boolean
  /** What began before it stays as it is: the first day of the site that is not sealed at all; `-infinity`, or an instant. */
  sealedUntil: string
}

/** Waits for its turn at a site. Null: the site is gone. */
export async function lockSite(tx: Tx, siteId: number): Promise<RollupSite | null> {
  // Primary keys of rollup_sites and website_sites.
  const lock = () =>
    tx.execute(sql`SELECT FROM website_worker.rollup_sites WHERE site_id = ${siteId} FOR NO KEY UPDATE`)
  if ((await lock()).rowCount === 0) {
    await tx.execute(sql`INSERT INTO website_worker.rollup_sites (site_id) VALUES (${siteId}) ON CONFLICT DO NOTHING`)
    await lock()
  }
  // A statement of its own, for a snapshot that was taken under the lock. The settings are the transaction's: compiling a
  // statement takes longer than most runs, and rows that are wanted together lie together: who takes each for a page of its
  // own rather reads those of all sites.
  const { rows } = await tx.execute(
    sql`SELECT z.zone, nullif(s.timezone, '') AS named, r.timezone IS NOT NULL AND r.timezone <> coalesce(s.timezone, '') AS changed,
          CASE WHEN r.sealed_before IS NULL THEN '-infinity' WHEN d.start = r.sealed_before THEN d.start
            ELSE website_worker.instant_of((d.day + 1)::timestamp, z.zone) END::text AS sealed,
          set_config('work_mem', '32MB', true), set_config('jit', 'off', true),
          set_config('random_page_cost', '0.1', true)
        FROM website_worker.rollup_sites r
        JOIN public.website_sites s ON s.id = r.site_id
        CROSS JOIN LATERAL (SELECT coalesce(website_worker.zone_of(nullif(s.timezone, '')), 'UTC') AS zone OFFSET 0) z
        CROSS JOIN LATERAL (SELECT (r.sealed_before AT TIME ZONE z.zone)::date AS day,
          website_worker.instant_of((r.sealed_before AT TIME ZONE z.zone)::date::timestamp, z.zone) AS start) d
        WHERE r.site_id = ${siteId}`,
  )
  const row = rows[0] as { zone: string; named: string | null; changed: boolean; sealed: string } | undefined
  if (!row) return null
  const { zone, named, changed, sealed } = row
  return {
    siteId,
    zone,
    unknownZone: named !== null && named !== zone ? named : null,
    zoneChanged: changed,
    sealedUntil: sealed,
  }
}

/** Removes the marks that stand for all hours there are; returns the kinds of rows they were for. */
export async function takeEverything(tx: Tx, siteId: number): Promise<('pageviews' | 'events')[]> {
  // analytics_dirty_pkey, at its head.
  const { rows } = await tx.execute(
    sql`WITH taken AS (
          DELETE FROM website_worker.analytics_dirty WHERE site_id = ${siteId} AND hour = '-infinity' RETURNING kind)
        SELECT DISTINCT kind FROM taken`,
  )
  return rows.map((row) => row.kind as 'pageviews' | 'events')
}

export interface Remaining {
  /** Nothing is left to do, as of when the statement began. */
  isClean: boolean
  /** Visitors of periods are to be computed again, and it is time to. */
  visitorsDue: boolean
}

/** Writes down how far a site is: where nothing is left, everything committed until now is in. */
export async function noteProgress(
  tx: Tx,
  siteId: number,
  { changedFrom = null }: { changedFrom?: string | null } = {},
): Promise<Remaining> {
  // Primary keys; analytics_dirty_pkey.
  const { rows } = await tx.execute(
    sql`WITH left_over AS MATERIALIZED (
          SELECT EXISTS (SELECT FROM website_worker.analytics_dirty d WHERE d.site_id = ${siteId}) AS is_dirty)
        UPDATE website_worker.rollup_sites r SET
          timezone = coalesce((SELECT s.timezone FROM public.website_sites s WHERE s.id = r.site_id), ''),
          visitors_from = least(r.visitors_from, ${changedFrom}::date),
          rolled_through = CASE WHEN l.is_dirty THEN r.rolled_through ELSE statement_timestamp() END
        FROM left_over l WHERE r.site_id = ${siteId}
        RETURNING NOT l.is_dirty AS "isClean",
          r.visitors_from IS NOT NULL AND r.visitors_next_at <= clock_timestamp() AS "visitorsDue"`,
  )
  return rows[0] as unknown as Remaining
}

/** When a site may be rolled up again, ms from now. */
export async function putOffSite(tx: Tx, siteId: number, waitMs: number): Promise<void> {
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.rollup_sites SET next_at = clock_timestamp() + ${waitMs} * interval '1 ms' WHERE site_id = ${siteId}`,
  )
}

/** The first day on which a visit may count in another timezone than the one it was counted in; null without visits. */
export async function firstVisitDay(tx: Tx, { siteId, zone, sealedUntil }: RollupSite): Promise<string | null> {
  // website_analytics_visits_started.
  const { rows } = await tx.execute(
    sql`SELECT ((min(v.started_at) AT TIME ZONE ${zone})::date - 1)::text AS day FROM public.website_analytics_visits v
        WHERE v.site_id = ${siteId} AND v.started_at >= ${sealedUntil}::timestamptz`,
  )
  return rows[0]!.day as string | null
}
