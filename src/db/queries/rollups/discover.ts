import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { pgErrorOf } from '../pg-error.ts'

/** Sites whose log holds something, from one to the next however long it is. */
const dirtySites = sql`
  WITH RECURSIVE dirty (site_id) AS (
    SELECT (SELECT d.site_id FROM website_worker.analytics_dirty d ORDER BY d.site_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.site_id FROM website_worker.analytics_dirty d WHERE d.site_id > p.site_id ORDER BY d.site_id LIMIT 1)
    FROM dirty p WHERE p.site_id IS NOT NULL)
  SELECT site_id FROM dirty WHERE site_id IS NOT NULL`

/** What of a site's log is dropped in one statement while its rollups are off. */
const mostDropped = 10_000

/** Owes a roll-up to sites out of a list; what stays of earlier ones that nobody asked for goes after ten minutes. */
async function owe(db: Db, sites: SQL): Promise<number> {
  // work_unfinished_key and work_job_key.
  const { rows } = await db.execute(
    sql`WITH site AS MATERIALIZED (${sites}),
        owed AS (
          INSERT INTO website_worker.work (job, key, site_id, payload, label, trigger, next_at, created_at)
          SELECT 'roll-up-analytics', s.site_id::text, s.site_id, jsonb_build_object('siteId', s.site_id),
            'roll-up-analytics ' || s.site_id, 'discovery', now(), now()
          FROM site s
          WHERE EXISTS (SELECT FROM website_worker.jobs j WHERE j.job = 'roll-up-analytics')
          ORDER BY s.site_id
          ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING RETURNING key),
        gone AS (
          DELETE FROM website_worker.work WHERE id = ANY (ARRAY(
            SELECT w.id FROM owed o CROSS JOIN LATERAL (
              SELECT w.id FROM website_worker.work w
              WHERE w.job = 'roll-up-analytics' AND w.key = o.key AND w.state = 'done' AND w.trigger = 'discovery'
                AND w.finished_at < now() - interval '10 minutes' ORDER BY w.id LIMIT 20) w)))
        SELECT count(*)::int AS n FROM owed`,
  )
  return rows[0]!.n as number
}

/**
 * Finds sites to roll up: those whose pageviews or events changed, whose visitors of periods are due, whose timezone is
 * another, or that are gone. Where rollups are off, what the log holds is owed to nobody, and goes.
 */
export async function discoverRollups(db: Db): Promise<number> {
  // analytics_dirty_pkey; rollup_sites, website_sites and domains have a row a site.
  const { rows } = await db.execute(
    sql`WITH dirty AS MATERIALIZED (${dirtySites}),
        candidate AS (
          SELECT d.site_id FROM dirty d
          WHERE NOT EXISTS (SELECT FROM website_worker.rollup_sites r WHERE r.site_id = d.site_id AND r.next_at > now())
          UNION
          SELECT r.site_id FROM website_worker.rollup_sites r LEFT JOIN public.website_sites s ON s.id = r.site_id
          WHERE r.next_at <= now() AND (s.id IS NULL OR r.timezone <> coalesce(s.timezone, '')
            OR (r.visitors_from IS NOT NULL AND r.visitors_next_at <= now()))),
        judged AS MATERIALIZED (
          SELECT c.site_id, website_worker.hold_reason('rollups', c.site_id) AS reason FROM candidate c),
        dropped AS (
          DELETE FROM website_worker.analytics_dirty WHERE ctid = ANY (ARRAY(
            SELECT d.ctid FROM judged j CROSS JOIN LATERAL (
              SELECT d.ctid FROM website_worker.analytics_dirty d WHERE d.site_id = j.site_id LIMIT ${mostDropped}) d
            WHERE j.reason = 'domain off')))
        SELECT j.site_id AS "siteId" FROM judged j
        WHERE j.reason IS NULL AND NOT EXISTS (
          SELECT FROM website_worker.work w WHERE w.job = 'roll-up-analytics' AND w.key = j.site_id::text
            AND w.state IN ('owed', 'running', 'held'))
        ORDER BY random()`,
  )
  const siteIds = rows.map((row) => row.siteId as number)
  if (siteIds.length === 0) return 0
  const listed = (ids: readonly number[]) => sql`SELECT unnest(${sql.param(ids)}::int[]) AS site_id`
  try {
    return await owe(db, listed(siteIds))
  } catch (error) {
    if (pgErrorOf(error)?.code !== '55P03') throw error
  }
  // Somebody holds, uncommitted, an item of the same key: one by one, in another order each time.
  const until = performance.now() + 300
  let owed = 0
  for (const siteId of siteIds) {
    if (performance.now() >= until) break
    owed += await owe(db, listed([siteId])).catch((error: unknown) => {
      if (pgErrorOf(error)?.code !== '55P03') throw error
      return 0
    })
  }
  return owed
}
