import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { pgErrorOf } from './pg-error.ts'

export interface DiscoveryOptions {
  /** Submissions looked at in one statement. Default: 1000. */
  pageSize?: number
  /** How long one call goes on, ms. Default: 300. */
  budgetMs?: number
}

interface Page {
  looked: number
  owed: number
  first: number
  last: number
}

/** Ids of new submissions that some enabled domain may want. */
// idx_website_form_submissions_new; domains is a handful of rows.
const candidates = sql`SELECT s.id, s.form_id FROM public.website_form_submissions s
  WHERE s.status = 'new' AND s.id > (
    SELECT min(d.watermark) FROM website_worker.domains d WHERE d.domain IN ('leads', 'notifications') AND d.enabled)`

/** Owes what is to be done for the submissions of one page that were not seen before. */
async function owePage(db: Db, page: SQL): Promise<Page> {
  const wanted = (domain: string) => sql`(
    SELECT d.enabled AND u.id > d.watermark FROM website_worker.domains d
    WHERE d.domain = ${domain} AND d.site_id IN (0, f.site_id) ORDER BY d.site_id DESC LIMIT 1)`
  // Primary keys of seen_submissions, forms, domains and jobs; work_unfinished_key.
  const { rows } = await db.execute(
    sql`WITH page AS MATERIALIZED (${page}),
        unseen AS MATERIALIZED (
          SELECT p.id, p.form_id FROM page p
          WHERE NOT EXISTS (SELECT FROM website_worker.seen_submissions z WHERE z.submission_id = p.id)),
        fresh AS MATERIALIZED (
          SELECT u.id, f.site_id, f.email_notifications AND cardinality(f.notification_emails) > 0 AS notifies,
            ${wanted('leads')} AS leads, ${wanted('notifications')} AS mails
          FROM unseen u JOIN public.website_forms f ON f.id = u.form_id),
        seen AS (
          INSERT INTO website_worker.seen_submissions (submission_id)
          SELECT f.id FROM fresh f WHERE f.leads OR f.mails ORDER BY f.id
          ON CONFLICT DO NOTHING RETURNING submission_id),
        owed AS (
          INSERT INTO website_worker.work (job, key, site_id, payload, label, state, reason, trigger, next_at, created_at)
          SELECT j.job, f.id::text, f.site_id, jsonb_build_object('submissionId', f.id), j.job || ' ' || f.id,
            CASE WHEN h.reason IS NULL THEN 'owed' ELSE 'held' END, h.reason, 'discovery', now(), now()
          FROM fresh f
          CROSS JOIN LATERAL (VALUES ('create-lead', 'leads', f.leads),
                                     ('send-notification', 'notifications', f.mails AND f.notifies)) j(job, domain, wanted)
          CROSS JOIN LATERAL (SELECT website_worker.hold_reason(j.domain, coalesce(f.site_id, 0)) AS reason) h
          WHERE j.wanted AND f.id IN (SELECT submission_id FROM seen)
            AND EXISTS (SELECT FROM website_worker.jobs k WHERE k.job = j.job)
          ORDER BY j.job, f.id
          ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING RETURNING id)
        SELECT (SELECT count(*) FROM page)::int AS looked, (SELECT count(*) FROM owed)::int AS owed,
          (SELECT min(id) FROM page) AS first, (SELECT max(id) FROM page) AS last`,
  )
  const row = rows[0]
  const number = (column: string) => Number(row?.[column] ?? 0)
  return { looked: number('looked'), owed: number('owed'), first: number('first'), last: number('last') }
}

/** Somebody holds, uncommitted, an item of the same key. */
const stoodInTheWay = (error: unknown) => pgErrorOf(error)?.code === '55P03'

/** Looks at one submission, before someone who asked for its lead changes its status: its notification is owed too. */
export async function discoverSubmission(db: Db, submissionId: number): Promise<void> {
  // As above.
  await owePage(db, sql`${candidates} AND s.id = ${submissionId}`)
}

/**
 * Finds new submissions, each once, and owes their jobs. Every call looks at the newest, as long as there are some among
 * them that were not seen, and at one page more of all that are still `new`, since transactions don't commit in the order
 * of their ids. Calls return how many items they made.
 */
export function createSubmissionDiscovery(options: DiscoveryOptions = {}): (db: Db) => Promise<number> {
  const { pageSize = 1_000, budgetMs = 300 } = options
  let after = 0

  /** One by one, in another order each time, where someone stands in the way of some. */
  async function owe(db: Db, page: SQL): Promise<Page> {
    try {
      return await owePage(db, page)
    } catch (error) {
      if (!stoodInTheWay(error)) throw error
    }
    const until = performance.now() + budgetMs
    // As above.
    const { rows } = await db.execute(sql`SELECT p.id FROM (${page}) p ORDER BY random()`)
    let owed = 0
    for (const { id } of rows) {
      if (performance.now() >= until) break
      try {
        owed += (await owePage(db, sql`${candidates} AND s.id = ${id}`)).owed
      } catch (error) {
        if (!stoodInTheWay(error)) throw error
      }
    }
    const ids = rows.map((row) => Number(row.id))
    return { looked: rows.length, owed, first: Math.min(...ids), last: Math.max(0, ...ids) }
  }

  return async function discover(db) {
    const until = performance.now() + budgetMs
    let found = 0
    for (let below = sql``; ;) {
      const page = await owe(db, sql`${candidates} ${below} ORDER BY s.id DESC LIMIT ${pageSize}`)
      found += page.owed
      if (page.looked < pageSize) return found
      if (page.owed === 0 || performance.now() >= until) break
      below = sql`AND s.id < ${page.first}`
    }
    const page = await owe(db, sql`${candidates} AND s.id > ${after} ORDER BY s.id LIMIT ${pageSize}`)
    after = page.looked < pageSize ? 0 : page.last
    return found + page.owed
  }
}
