import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../../client.ts'

export interface SyncSchedule {
  job: string
  /** Of `website_sites.settings.erp.schedule`. */
  field: 'products' | 'inventory' | 'prices'
  /** How often it runs where the site says nothing. */
  everySeconds: number
  /** A site that is new runs at once, not at its next turn. */
  isFirst: boolean
}

/** Whether a site has an ERP: its own, or the one of the environment. */
export const hasErp = (site: SQL, hasDefault: boolean): SQL =>
  sql`(${hasDefault} OR coalesce(${site}.settings -> 'erp' ->> 'url', '') <> '')`

/**
 * Brings the schedules of a job in line with the sites: a row for each active one with an ERP whose domain is on, as
 * often as its settings say. Writes nothing where nothing changed. Returns how many rows changed.
 */
export async function keepSyncSchedules(db: Db, schedule: SyncSchedule, hasDefault: boolean): Promise<number> {
  const { job, field, everySeconds, isFirst } = schedule
  // Two tables of a row a site, and the primary key of domains. The offset is that of spreadSeconds.
  const { rowCount } = await db.execute(
    sql`WITH said AS MATERIALIZED (
          SELECT s.id, substring(w.word FROM '^([0-9]{1,7})[smhd]$')::int AS n, right(w.word, 1) AS unit, w.word
          FROM public.website_sites s
          CROSS JOIN LATERAL (SELECT lower(btrim(s.settings -> 'erp' -> 'schedule' ->> ${field})) AS word) w
          WHERE s.deleted_at IS NULL AND coalesce(s.status, 'active') = 'active' AND ${hasErp(sql`s`, hasDefault)}
            AND website_worker.hold_reason('erp', s.id) IS DISTINCT FROM 'domain off'),
        wanted AS MATERIALIZED (
          SELECT e.id, e.every, (('x' || encode(substr(sha256(convert_to(${`${job}:`} || e.id, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint
            % e.every)::int AS shift
          FROM (
            SELECT id, least(30 * 86400, greatest(10, CASE WHEN n IS NULL THEN ${everySeconds}
              ELSE n::bigint * CASE unit WHEN 's' THEN 1 WHEN 'm' THEN 60 WHEN 'h' THEN 3600 ELSE 86400 END END)) AS every
            FROM said WHERE word IS DISTINCT FROM 'off') e),
        gone AS (
          DELETE FROM website_worker.schedules g
          WHERE g.job = ${job} AND g.site_id <> 0 AND g.site_id NOT IN (SELECT w.id FROM wanted w)
          RETURNING 1),
        kept AS (
          INSERT INTO website_worker.schedules AS s (site_id, job, every_seconds, offset_seconds, next_at)
          SELECT w.id, ${job}, w.every, w.shift, CASE WHEN ${isFirst} THEN now() ELSE
            to_timestamp((floor((extract(epoch FROM now()) - w.shift) / w.every) + 1) * w.every + w.shift) END
          FROM wanted w
          LEFT JOIN website_worker.schedules h ON h.site_id = w.id AND h.job = ${job}
          WHERE h.site_id IS NULL OR h.every_seconds <> w.every ORDER BY w.id
          ON CONFLICT (site_id, job) DO UPDATE SET every_seconds = excluded.every_seconds,
            offset_seconds = excluded.offset_seconds, next_at = least(s.next_at, excluded.next_at)
          RETURNING 1)
        SELECT FROM gone UNION ALL SELECT FROM kept`,
  )
  return rowCount ?? 0
}
