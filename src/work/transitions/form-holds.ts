import { sql } from 'drizzle-orm'
import type { Db } from '../../db/client.ts'
import { integrationsSeen } from '../../db/queries/integration-faults.ts'
import { holdReasons } from '../../queues/hold-reasons.ts'

const { crmMissing, crmUnusable, mailMissing, mailUnusable } = holdReasons
const ofCrm = sql`(${crmMissing}::text, ${crmUnusable}::text)`
const ofMail = sql`(${mailMissing}::text, ${mailUnusable}::text)`

/** Items of one group that are released at a time. */
const batchSize = 1_000

export interface FormReleaseOptions {
  /** How often one item of a site tries whether an integration works by now, though no row of it was changed. Default: 60000. */
  probeMs?: number
}

/**
 * Owes again what a form, or a site's CRM or mail server, held and no longer holds. While a fault is noted one item tries,
 * when the site's integrations were changed or once a minute (a credential may have been set); the others wait until it
 * worked. What belongs to a form that is gone goes on too, and ends. Returns how many.
 */
export async function releaseForms(db: Db, jobs: readonly string[], options: FormReleaseOptions = {}): Promise<number> {
  const { probeMs = 60_000 } = options
  const held = sql`w.state = 'held' AND w.job = j.job`
  // work_held, group by group; the primary keys of jobs, forms and faults; idx_website_integrations_site_id.
  const { rowCount } = await db.execute(
    sql`WITH RECURSIVE some_jobs AS (
          SELECT j.job, j.domain FROM website_worker.jobs j WHERE j.job = ANY (${sql.param(jobs)}::text[])),
        groups AS (
          SELECT j.job, j.domain, n.site_id, n.reason FROM some_jobs j CROSS JOIN LATERAL (
            SELECT w.site_id, w.reason FROM website_worker.work w
            WHERE ${held} AND w.site_id IS NOT NULL ORDER BY w.site_id, w.reason LIMIT 1) n
          UNION ALL
          SELECT j.job, j.domain, n.site_id, n.reason FROM groups j CROSS JOIN LATERAL (
            SELECT w.site_id, w.reason FROM website_worker.work w
            WHERE ${held} AND (w.site_id, w.reason) > (j.site_id, j.reason) ORDER BY w.site_id, w.reason LIMIT 1) n),
        free AS MATERIALIZED (
          SELECT g.job, g.site_id, g.reason, CASE
            WHEN g.form_id IS NOT NULL
              THEN CASE WHEN f.id IS NULL OR f.is_active AND f.deleted_at IS NULL THEN ${batchSize}::int ELSE 0 END
            WHEN g.type IS NULL THEN 0
            WHEN x.site_id IS NULL THEN ${batchSize}::int
            WHEN x.checked_at < now() - ${probeMs} * interval '1 ms'
              OR x.seen <> ${integrationsSeen(sql`g.site_id`, sql`g.type`)} THEN 1
            ELSE 0 END AS most
          FROM (
            SELECT g.*, substring(g.reason FROM '^form ([0-9]{1,10}) (?:inactive|deleted)$')::bigint AS form_id,
              CASE WHEN g.reason IN ${ofCrm} THEN 'crm' WHEN g.reason IN ${ofMail} THEN 'email' END AS type
            FROM groups g) g
          LEFT JOIN public.website_forms f ON f.id = g.form_id
          LEFT JOIN website_worker.integration_faults x ON x.site_id = g.site_id AND x.type = g.type
          WHERE (g.form_id IS NOT NULL OR g.type IS NOT NULL) AND website_worker.hold_reason(g.domain, g.site_id) IS NULL),
        picked AS MATERIALIZED (
          SELECT p.id, g.reason FROM free g CROSS JOIN LATERAL (
            SELECT w.id FROM website_worker.work w
            WHERE w.state = 'held' AND w.job = g.job AND w.site_id = g.site_id AND w.reason = g.reason
            ORDER BY w.job, w.site_id, w.reason, w.id LIMIT g.most) p),
        locked AS MATERIALIZED (
          SELECT w.id FROM website_worker.work w JOIN picked USING (id, reason)
          WHERE w.id = ANY (ARRAY(SELECT id FROM picked)) AND w.state = 'held'
          ORDER BY w.id FOR UPDATE OF w SKIP LOCKED)
        UPDATE website_worker.work w
        SET state = 'owed', reason = NULL, generation = w.generation + 1, rung_at = NULL, next_at = greatest(w.next_at, now())
        WHERE w.id = ANY (ARRAY(SELECT id FROM locked))`,
  )
  return rowCount ?? 0
}
