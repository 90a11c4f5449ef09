import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { walk } from './prune-steps.ts'

const batch = 2_000

/** Forgets what was done for submissions that are gone, but for those that a job is still at. Returns how many rows. */
export async function pruneSubmissions(db: Db, signal: AbortSignal): Promise<number> {
  let total = 0
  for (const table of ['seen_submissions', 'crm_leads', 'submission_mails']) {
    const name = sql.raw(`website_worker.${table}`)
    // Primary keys, past those that stay; work_unfinished_key for the few that are gone, in subqueries never made a join.
    total += await walk(
      db,
      signal,
      batch,
      0,
      (after) => sql`
        WITH page AS MATERIALIZED (
          SELECT submission_id AS id FROM ${name} WHERE submission_id > ${after}::int ORDER BY submission_id LIMIT ${batch}),
        gone AS (
          DELETE FROM ${name} WHERE submission_id = ANY (ARRAY(
            SELECT p.id FROM page p
            WHERE (SELECT s.id FROM public.website_form_submissions s WHERE s.id = p.id) IS NULL
              AND (SELECT w.id FROM website_worker.work w
                   WHERE w.job IN ('create-lead', 'check-lead', 'send-notification') AND w.key = p.id::text
                     AND w.state IN ('owed', 'running', 'held') LIMIT 1) IS NULL))
          RETURNING 1)
        SELECT (SELECT count(*) FROM page)::int AS looked, (SELECT count(*) FROM gone)::int AS removed,
          (SELECT max(id) FROM page) AS last`,
    )
  }
  return total
}
