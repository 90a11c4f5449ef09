import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../client.ts'

const pageSize = 1_000

/** What of the past is to be owed. */
export interface BackfillScope {
  siteId: number
  /** Written at or after; null: ever. */
  since: Date | null
}

/** New submissions of a site. */
const ofScope = ({ siteId, since }: BackfillScope): SQL =>
  // idx_website_forms_site_id, idx_website_form_submissions_new.
  sql`FROM public.website_forms f JOIN public.website_form_submissions s ON s.form_id = f.id
      WHERE f.site_id = ${siteId} AND s.status = 'new'
        AND (${since?.toISOString() ?? null}::timestamptz IS NULL
             OR s.created_at >= ${since?.toISOString() ?? null}::timestamptz AT TIME ZONE 'UTC')`

/** How many submissions `oweLeads` would owe a lead. */
export async function countOwableLeads(db: Db, scope: BackfillScope): Promise<number> {
  // As above; work_unfinished_key.
  const { rows } = await db.execute(
    sql`SELECT count(*)::int AS count ${ofScope(scope)}
          AND NOT EXISTS (SELECT FROM website_worker.work w WHERE w.job = 'create-lead' AND w.key = s.id::text
                            AND w.state IN ('owed', 'running', 'held'))`,
  )
  return Number(rows[0]?.count ?? 0)
}

/** Owes leads for submissions that are still new, whenever they were written; a page a statement. Returns how many. */
export async function oweLeads(db: Db, scope: BackfillScope): Promise<number> {
  for (let owed = 0, after = 0; ;) {
    // As above, by id; work_unfinished_key tells what is owed already, for the planner knows nothing yet of a table that
    // is just being filled, and would compare every row with every other.
    const { rows } = await db.execute(
      sql`WITH page AS MATERIALIZED (
            SELECT s.id, f.site_id ${ofScope(scope)} AND s.id > ${after} ORDER BY s.id LIMIT ${pageSize}),
          owed AS (
            INSERT INTO website_worker.work (job, key, site_id, payload, label, state, reason, trigger, next_at, created_at)
            SELECT 'create-lead', p.id::text, p.site_id, jsonb_build_object('submissionId', p.id), 'create-lead ' || p.id,
              CASE WHEN h.reason IS NULL THEN 'owed' ELSE 'held' END, h.reason, 'request', now(), now()
            FROM page p CROSS JOIN (SELECT website_worker.hold_reason('leads', ${scope.siteId}) AS reason) h
            ORDER BY p.id
            ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING RETURNING id)
          SELECT (SELECT count(*) FROM page)::int AS looked, (SELECT count(*) FROM owed)::int AS owed,
            (SELECT max(id) FROM page) AS last`,
    )
    const { looked, owed: more, last } = rows[0] as { looked: number; owed: number; last: number }
    owed += more
    if (looked < pageSize) return owed
    after = last
  }
}
