import { sql } from 'drizzle-orm'
import { versionMismatch } from '../../queues/hold-reasons.ts'
import type { Db } from '../client.ts'

/** Requests for a version that one call looks at. */
const most = 1_000

/** One call in so many looks, so that versions asked for years ahead cost nothing to speak of. */
const every = 10

/**
 * Owes what is held for another version than the one asked for again, when that is no longer so: the page is at that
 * version now, has another time, or isn't scheduled any more. Its run then publishes it, waits, or ends without effect. Goes
 * through the requests from call to call, a part of them each time, and returns how many it released.
 */
export function createVersionSweep(): (db: Db) => Promise<number> {
  let [calls, after] = [0, 0]

  return async function sweep(db) {
    if (calls++ % every !== 0) return 0
    // page_requests_pkey; work_unfinished_key and website_pages_pkey for each, row by row; primary key of work.
    const { rows } = await db.execute(
      sql`WITH looked AS MATERIALIZED (
            SELECT r.page_id, r.publish_at, r.version FROM website_worker.page_requests r
            WHERE r.page_id > ${after} ORDER BY r.page_id LIMIT ${most}
          ), over AS MATERIALIZED (
            SELECT w.id FROM looked r
            CROSS JOIN LATERAL (
              SELECT w.id, w.state, w.reason FROM website_worker.work w
              WHERE w.job = 'publish-page' AND w.key = r.page_id::text AND w.state IN ('owed', 'running', 'held') LIMIT 1) w
            LEFT JOIN LATERAL (
              SELECT p.status, p.deleted_at, p.publish_at, p.version FROM public.website_pages p
              WHERE p.id = r.page_id LIMIT 1) p ON true
            WHERE w.state = 'held' AND starts_with(w.reason, ${versionMismatch})
              AND (p.status = 'scheduled' AND p.deleted_at IS NULL AND p.publish_at = r.publish_at AT TIME ZONE 'UTC'
                AND coalesce(p.version, 1) <> r.version) IS NOT TRUE
          ), locked AS MATERIALIZED (
            SELECT w.id FROM website_worker.work w
            WHERE w.id = ANY (ARRAY(SELECT id FROM over)) AND w.state = 'held' AND starts_with(w.reason, ${versionMismatch})
            ORDER BY w.id FOR UPDATE SKIP LOCKED
          ), released AS (
            UPDATE website_worker.work w
            SET state = 'owed', reason = NULL, generation = w.generation + 1, rung_at = NULL, next_at = now()
            WHERE w.id = ANY (ARRAY(SELECT id FROM locked)) RETURNING w.id
          )
          SELECT max(l.page_id) AS last, count(*)::int AS looked, (SELECT count(*) FROM released)::int AS released
          FROM looked l`,
    )
    const { last, looked, released } = rows[0] as { last: number | null; looked: number; released: number }
    after = looked === most && last !== null ? last : 0
    return released
  }
}
