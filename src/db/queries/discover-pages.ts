import { sql } from 'drizzle-orm'
import { versionMismatch } from '../../queues/hold-reasons.ts'
import type { Db } from '../client.ts'
import { createVersionSweep } from './page-holds.ts'

/** How long before its time a page becomes a work item, so that it can be rung to the millisecond. */
const aheadMs = 60_000
/** Pages that are overdue for no longer than this are looked at by every call. */
const freshMs = 60_000
/** Pages, or requests, of one statement: it locks what it takes up. */
const most = 2_000

const unfinished = sql`('owed', 'running', 'held')`

/** An item that is to run at another time than it was made for, from its first attempt. */
const anew = sql`generation = w.generation + 1, attempts = 0, crashes = 0, rung_at = NULL, lane = NULL, result = NULL,
  last_error = NULL, finished_at = NULL`

/**
 * Moves the items of pages that were asked for again to the time they are scheduled for by now, unless someone has them
 * locked; one that has ended meanwhile is owed again, so that whoever asked can follow it. What a person cancelled stays so.
 */
async function moveAsked(db: Db): Promise<number> {
  // page_requests_to_move; primary key of work, then work_unfinished_key for the twin.
  const { rowCount } = await db.execute(
    sql`WITH asked AS MATERIALIZED (
          SELECT r.page_id, r.work_id, r.publish_at, r.version FROM website_worker.page_requests r
          WHERE r.work_id IS NOT NULL ORDER BY r.page_id LIMIT ${most} FOR UPDATE SKIP LOCKED
        ), items AS MATERIALIZED (
          SELECT w.id, w.state FROM website_worker.work w WHERE w.id = ANY (ARRAY(SELECT work_id FROM asked))
          ORDER BY w.id FOR UPDATE SKIP LOCKED
        ), moved AS (
          UPDATE website_worker.work w
          SET state = CASE WHEN w.state = 'held' AND NOT starts_with(w.reason, ${versionMismatch}) THEN 'held' ELSE 'owed' END,
            reason = CASE WHEN w.state = 'held' AND NOT starts_with(w.reason, ${versionMismatch}) THEN w.reason END,
            next_at = a.publish_at, trigger = 'request', ${anew},
            payload = jsonb_strip_nulls(w.payload || jsonb_build_object(
              'publishAt', website_worker.instant_text(a.publish_at), 'version', a.version))
          FROM asked a
          WHERE w.id = a.work_id AND w.id = ANY (ARRAY(SELECT id FROM items))
            AND (w.state IN ${unfinished} OR w.state IN ('done', 'failed') AND (
              SELECT o.id FROM website_worker.work o
              WHERE o.job = w.job AND o.key = w.key AND o.state IN ${unfinished} LIMIT 1) IS NULL)
          RETURNING w.id
        ), settled AS (
          SELECT a.page_id, a.version FROM asked a
          WHERE a.work_id IN (SELECT id FROM items)
            OR (SELECT w.id FROM website_worker.work w WHERE w.id = a.work_id LIMIT 1) IS NULL
        ), kept AS (
          UPDATE website_worker.page_requests r SET work_id = NULL
          FROM settled s WHERE r.page_id = s.page_id AND s.version IS NOT NULL
        ), forgotten AS (
          DELETE FROM website_worker.page_requests r USING settled s WHERE r.page_id = s.page_id AND s.version IS NULL
        )
        SELECT FROM moved`,
  )
  return rowCount ?? 0
}

/** Pages with a time after `after`, up to `until`; both as Postgres writes timestamps. */
interface Range {
  after: string
  until: string
}

/** Where a walk through pages has come to. */
interface Position {
  publishAt: string
  id: number
}

/** What every call looks at, and what is overdue for longer; undefined where publishing is off everywhere. */
async function readRanges(db: Db): Promise<{ overdue: Range; fresh: Range } | undefined> {
  // domains_pkey. Without a row for all sites publishing is on, and pages since 1970 are owed.
  const { rows } = await db.execute(
    sql`SELECT w.at::text AS watermark, greatest(w.at, n.at - ${freshMs} * interval '1 ms')::text AS fresh,
          (n.at + ${aheadMs} * interval '1 ms')::text AS ahead
        FROM (SELECT timestamp '1970-01-01' + min(s.watermark) * interval '1 ms' AS at FROM (
            SELECT watermark, enabled, site_id FROM website_worker.domains WHERE domain = 'publishing'
            UNION ALL
            SELECT 0, true, 0 WHERE NOT EXISTS (
              SELECT FROM website_worker.domains WHERE domain = 'publishing' AND site_id = 0)) s
          WHERE s.enabled) w
        CROSS JOIN (SELECT now() AT TIME ZONE 'UTC' AS at) n
        WHERE w.at IS NOT NULL`,
  )
  const row = rows[0] as { watermark: string; fresh: string; ahead: string } | undefined
  return row && { overdue: { after: row.watermark, until: row.fresh }, fresh: { after: row.fresh, until: row.ahead } }
}

/**
 * Owes the pages of a range, oldest first: new items for those without one, and another time for items made for another.
 * Left alone are pages due before publishing was enabled, what failed or was cancelled for this very time, and rows that
 * someone has locked, whose transaction may be making the item.
 */
async function owePages(db: Db, { after, until }: Range, position: Position | undefined) {
  const from = position
    ? sql`(p.publish_at, p.id) > (${position.publishAt}::timestamp, ${position.id})`
    : sql`p.publish_at > ${after}::timestamp`
  // idx_website_pages_scheduled; work_unfinished_key and work_job_key for each page, row by row whatever the planner thinks
  // of their number; domains_pkey; website_pages_pkey.
  const { rows } = await db.execute(
    sql`WITH switches AS MATERIALIZED (
          SELECT site_id, enabled, paused, watermark FROM website_worker.domains WHERE domain = 'publishing'
        ), looked AS MATERIALIZED (
          SELECT p.id, p.site_id, p.publish_at FROM public.website_pages p
          WHERE p.status = 'scheduled' AND p.deleted_at IS NULL AND ${from} AND p.publish_at <= ${until}::timestamp
          ORDER BY p.publish_at, p.id LIMIT ${most}
        ), wanted AS MATERIALIZED (
          SELECT p.id, p.site_id, p.publish_at, t.text, u.id AS work_id, o.paused
          FROM looked p
          CROSS JOIN LATERAL (SELECT website_worker.instant_text(p.publish_at AT TIME ZONE 'UTC') AS text) t
          LEFT JOIN LATERAL (
            SELECT * FROM switches s WHERE s.site_id IN (0, p.site_id) ORDER BY s.site_id DESC LIMIT 1) o ON true
          LEFT JOIN LATERAL (
            SELECT w.id, w.state, w.reason, w.payload ->> 'publishAt' AS text FROM website_worker.work w
            WHERE w.job = 'publish-page' AND w.key = p.id::text AND w.state IN ${unfinished}
              AND coalesce(o.enabled, true) LIMIT 1) u ON true
          WHERE coalesce(o.enabled, true) AND extract(epoch FROM p.publish_at) * 1000 > coalesce(o.watermark, 0)
            AND CASE
              WHEN u.id IS NULL THEN (
                SELECT w.id FROM website_worker.work w WHERE w.job = 'publish-page' AND w.key = p.id::text
                  AND w.state IN ('failed', 'cancelled') AND w.payload ->> 'publishAt' = t.text LIMIT 1) IS NULL
              ELSE u.text IS DISTINCT FROM t.text
                AND (u.state = 'owed' OR (u.state = 'held' AND starts_with(u.reason, ${versionMismatch}))) END
        ), free AS MATERIALIZED (
          SELECT p.id, p.publish_at FROM public.website_pages p
          WHERE p.id = ANY (ARRAY(SELECT id FROM wanted)) AND p.status = 'scheduled' AND p.deleted_at IS NULL
          ORDER BY p.id FOR SHARE SKIP LOCKED
        ), due AS MATERIALIZED (
          SELECT w.id, w.site_id, w.text, w.work_id, w.paused, w.publish_at AT TIME ZONE 'UTC' AS publish_at
          FROM wanted w JOIN free f ON f.id = w.id AND f.publish_at = w.publish_at
        ), items AS MATERIALIZED (
          SELECT w.id FROM website_worker.work w WHERE w.id = ANY (ARRAY(SELECT work_id FROM due WHERE work_id IS NOT NULL))
            AND w.state IN ('owed', 'held')
          ORDER BY w.id FOR UPDATE SKIP LOCKED
        ), moved AS (
          UPDATE website_worker.work w
          SET state = 'owed', reason = NULL, next_at = d.publish_at, trigger = 'discovery', ${anew},
            payload = w.payload || jsonb_build_object('publishAt', d.text)
          FROM due d WHERE w.id = d.work_id AND w.id = ANY (ARRAY(SELECT id FROM items))
          RETURNING w.id
        ), made AS (
          INSERT INTO website_worker.work
            (job, key, site_id, payload, label, state, reason, trigger, next_at, created_at)
          SELECT 'publish-page', d.id::text, d.site_id, jsonb_build_object('pageId', d.id, 'publishAt', d.text),
            'publish-page ' || d.id, CASE WHEN d.paused THEN 'held' ELSE 'owed' END, CASE WHEN d.paused THEN 'paused' END,
            'discovery', d.publish_at, now()
          FROM due d WHERE d.work_id IS NULL ORDER BY d.publish_at, d.id
          ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING
          RETURNING id
        )
        SELECT l.publish_at::text AS "publishAt", l.id, (SELECT count(*) FROM looked)::int AS looked,
          ((SELECT count(*) FROM moved) + (SELECT count(*) FROM made))::int AS owed
        FROM looked l ORDER BY l.publish_at DESC, l.id DESC LIMIT 1`,
  )
  const last = rows[0] as (Position & { looked: number; owed: number }) | undefined
  return { looked: last?.looked ?? 0, owed: last?.owed ?? 0, last }
}

/**
 * Goes through a range from call to call, a part of it each time; a call that comes to the end begins anew with the next.
 * Ends after `mostIdle` pages that there was nothing to do for, or `mostOwed` that there was.
 */
function createWalk({ mostIdle, mostOwed }: { mostIdle: number; mostOwed: number }) {
  let position: Position | undefined
  return async function walk(db: Db, range: Range): Promise<number> {
    let [idle, owed] = [0, 0]
    while (idle < mostIdle && owed < mostOwed) {
      const part = await owePages(db, range, position)
      owed += part.owed
      idle += part.looked - part.owed
      position = part.looked === most ? part.last : undefined
      if (!position) break
    }
    return owed
  }
}

/**
 * Makes the work items of pages agree with the pages' own rows. Calls look at all that is due within a minute or has been
 * for less than one, and at a part of what is overdue for longer: pages that are held may be many, and stay. They return
 * how many items they made or moved.
 */
export function createPageDiscovery(): (db: Db) => Promise<number> {
  const walkOverdue = createWalk({ mostIdle: 2 * most, mostOwed: 5 * most })
  const walkFresh = createWalk({ mostIdle: 10 * most, mostOwed: 5 * most })
  const sweepVersions = createVersionSweep()

  return async function discover(db) {
    const moved = (await moveAsked(db)) + (await sweepVersions(db))
    const ranges = await readRanges(db)
    if (!ranges) return moved
    return moved + (await walkOverdue(db, ranges.overdue)) + (await walkFresh(db, ranges.fresh))
  }
}
