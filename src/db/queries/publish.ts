import { sql, type SQL } from 'drizzle-orm'
import { holdReasons } from '../../queues/hold-reasons.ts'
import { transact, type Db, type Tx } from '../client.ts'
import { isUnreachable } from '../unreachable.ts'
import { acceptEvents } from './events.ts'
import { pgErrorOf } from './pg-error.ts'

/** What came of a page that was to be published. */
export type Publication =
  | { kind: 'published'; version: number; publishedAt: Date; latenessMs: number }
  /** It is scheduled for later. */
  | { kind: 'early'; dueInMs: number }
  /** Nothing is to be published, and nothing is wrong. */
  | { kind: 'unneeded'; why: string }
  | { kind: 'held'; reason: string }
  /** Another version was asked for. */
  | { kind: 'mismatch'; wanted: number; version: number }
  /** Nothing is wrong with it, but it could not be done now. */
  | { kind: 'later'; error: string }
  /** It can't be published as it stands. */
  | { kind: 'failed'; error: string }

interface Page {
  id: number
  siteId: number | null
  slug: string
  title: string
  version: number
  status: string | null
  deleted: boolean
  dueInMs: number | null
  hold: string | null
  wanted: number | null
  /** The statement's instant, with all the digits Postgres keeps. */
  now: string
}

const ints = (values: readonly number[]) => sql`${sql.param(values)}::int[]`

/** Locks the pages that no one else has locked. */
async function lockPages(tx: Tx, pageIds: readonly number[]): Promise<Set<number>> {
  // Primary key; locked in id order.
  const { rows } = await tx.execute(
    sql`SELECT p.id FROM public.website_pages p WHERE p.id = ANY (${ints(pageIds)})
        ORDER BY p.id FOR NO KEY UPDATE SKIP LOCKED`,
  )
  return new Set(rows.map((row) => row.id as number))
}

/** Reads what is to be known of pages; a statement of its own, for a snapshot that holds what was committed with the lock. */
async function readPages(tx: Tx, pageIds: readonly number[]): Promise<Map<number, Page>> {
  const { siteDeleted, siteInactive, siteInMaintenance } = holdReasons
  // Primary keys of website_pages, website_sites and page_requests.
  const { rows } = await tx.execute(
    sql`SELECT p.id, p.site_id AS "siteId", p.slug, p.title, coalesce(p.version, 1) AS version, p.status,
          p.deleted_at IS NOT NULL AS deleted,
          (extract(epoch FROM p.publish_at - (statement_timestamp() AT TIME ZONE 'UTC')) * 1000)::float8 AS "dueInMs",
          CASE WHEN s.deleted_at IS NOT NULL THEN ${siteDeleted}::text WHEN s.status = 'maintenance' THEN ${siteInMaintenance}
               WHEN s.status <> 'active' THEN ${siteInactive} END AS hold,
          r.version AS wanted, website_worker.instant_text(statement_timestamp()) AS now
        FROM public.website_pages p
        LEFT JOIN public.website_sites s ON s.id = p.site_id
        LEFT JOIN website_worker.page_requests r ON r.page_id = p.id AND r.publish_at = p.publish_at AT TIME ZONE 'UTC'
        WHERE p.id = ANY (${ints(pageIds)})`,
  )
  return new Map((rows as unknown as Page[]).map((page) => [page.id, page]))
}

/** Why a page is not to be published now; undefined when it is. */
function judge(page: Page): Publication | undefined {
  const { status, dueInMs, hold, wanted, version } = page
  if (page.deleted) return { kind: 'unneeded', why: 'the page is deleted' }
  if (status === 'published') return { kind: 'unneeded', why: 'the page is published already' }
  if (status !== 'scheduled')
    return { kind: 'unneeded', why: `the page is not scheduled but ${status ?? 'without a status'}` }
  if (dueInMs === null) return { kind: 'unneeded', why: 'the page is scheduled for no time' }
  if (dueInMs > 0) return { kind: 'early', dueInMs }
  if (hold !== null) return { kind: 'held', reason: hold }
  if (wanted !== null && wanted !== version) return { kind: 'mismatch', wanted, version }
  return undefined
}

/** Emits `content.published` for pages of sites; returns those whose webhooks someone else has locked. */
async function emit(tx: Tx, pages: readonly Page[]): Promise<Set<number>> {
  const ofSites = pages.filter((page) => page.siteId !== null)
  const accepted = await acceptEvents(
    tx,
    ofSites.map(({ id, siteId, slug, title, version, now }) => ({
      siteId: siteId!,
      event: 'content.published',
      data: { pageId: id, siteId, slug, title, version, publishedAt: new Date(now).toISOString() },
      occurredAt: now,
    })),
    { rung: false, wait: false },
  )
  return new Set(ofSites.flatMap(({ id }, index) => (accepted[index]?.outcome === 'accepted' ? [] : [id])))
}

/** Writes the pages, their missing versions and the audit log. The pages are locked. */
async function write(tx: Tx, pages: readonly Page[]): Promise<void> {
  const ids = ints(pages.map((page) => page.id))
  const now = sql`(${pages[0]!.now}::timestamptz AT TIME ZONE 'UTC')`
  // Primary keys; website_page_versions_page_id_version_key. A version that someone else is just inserting is waited for.
  await tx.execute(
    sql`WITH published AS (
          UPDATE public.website_pages p
          SET status = 'published', published_at = ${now}, updated_at = ${now}
          WHERE p.id = ANY (${ids}) RETURNING p.id
        ), versions AS (
          INSERT INTO public.website_page_versions
            (page_id, version, title, blocks, seo_title, seo_description, author_id, comment, created_at)
          SELECT p.id, coalesce(p.version, 1), p.title, p.blocks, p.seo_title, p.seo_description, p.author_id,
            'Published on schedule', ${now}
          FROM public.website_pages p
          WHERE p.id = ANY (${ids}) AND NOT EXISTS (
            SELECT FROM public.website_page_versions v WHERE v.page_id = p.id AND v.version = coalesce(p.version, 1))
          ORDER BY p.id ON CONFLICT DO NOTHING
        ), forgotten AS (
          DELETE FROM website_worker.page_requests r WHERE r.page_id = ANY (${ids}) AND r.work_id IS NULL
        )
        INSERT INTO public.website_audit_logs
          (site_id, action, resource_type, resource_id, resource_name, changes, user_agent, created_at)
        SELECT p.site_id, 'page.published', 'page', p.id, p.title, jsonb_build_object(
          'status', jsonb_build_object('from', p.status, 'to', 'published'), 'version', coalesce(p.version, 1),
          'publishAt', website_worker.instant_text(p.publish_at AT TIME ZONE 'UTC')), 'website-worker', ${now}
        FROM public.website_pages p WHERE p.id = ANY (${ids}) ORDER BY p.id`,
  )
}

/** Publishes what is due of some pages, in one transaction: all of it, or nothing. */
function publishTogether(db: Db, pageIds: readonly number[]): Promise<Publication[]> {
  return transact(db, async (tx) => {
    const ours = await lockPages(tx, pageIds)
    const pages = await readPages(tx, pageIds)
    const due = [...pages.values()].filter((page) => ours.has(page.id) && judge(page) === undefined)
    const lockedWebhooks = due.length > 0 ? await emit(tx, due) : new Set()
    const publishable = due.filter((page) => !lockedWebhooks.has(page.id))
    if (publishable.length > 0) await write(tx, publishable)
    return pageIds.map((id): Publication => {
      const page = pages.get(id)
      if (!page) return { kind: 'unneeded', why: 'the page is deleted' }
      if (!ours.has(id)) return { kind: 'later', error: 'another transaction has locked the page' }
      const verdict = judge(page)
      if (verdict) return verdict
      if (lockedWebhooks.has(id))
        return { kind: 'later', error: 'another transaction has locked a webhook of its site' }
      const { version, now, dueInMs } = page
      return { kind: 'published', version, publishedAt: new Date(now), latenessMs: -dueInMs! }
    })
  })
}

/** Bad values, broken constraints and what triggers raise: the page's own fault, which waiting doesn't mend. */
const ownFault = /^(22|23|P0)/

/** What a page comes to that failed by itself. @throws when the database could not be asked */
function failureOf(error: unknown): Publication {
  const cause = pgErrorOf(error)
  if (!cause?.code || (isUnreachable(error) && !conflicts.includes(cause.code))) throw error
  if (ownFault.test(cause.code)) return { kind: 'failed', error: cause.message }
  return { kind: 'later', error: cause.message }
}

/** Deadlock, serialization failure: to be asked again, while the database is there. */
const conflicts = ['40P01', '40001']

/**
 * Publishes what is due of some pages: each with its version, audit row and event, or not at all. A page that can't be
 * published keeps none of the others from it.
 * @throws what the database says when it can't be asked
 */
export async function publishPages(db: Db, pageIds: readonly number[]): Promise<Publication[]> {
  if (pageIds.length === 0) return []
  try {
    return await publishTogether(db, pageIds)
  } catch (error) {
    const failure = failureOf(error)
    if (pageIds.length === 1) return [failure]
  }
  // Halves, so that one broken page among hundreds is found in a few steps.
  const middle = Math.ceil(pageIds.length / 2)
  return [...(await publishPages(db, pageIds.slice(0, middle))), ...(await publishPages(db, pageIds.slice(middle)))]
}

/** Notes in the audit log what could not be published, once for each page given. */
export async function recordUnpublished(
  tx: Db | Tx,
  pages: readonly { pageId: number; action: string; changes: object }[],
): Promise<void> {
  const column = (pick: (page: (typeof pages)[number]) => unknown, type: SQL) =>
    sql`${sql.param(pages.map(pick))}::${type}[]`
  // Primary key.
  await tx.execute(
    sql`INSERT INTO public.website_audit_logs
          (site_id, action, resource_type, resource_id, resource_name, changes, user_agent, created_at)
        SELECT p.site_id, r.action, 'page', p.id, p.title, r.changes, 'website-worker', now() AT TIME ZONE 'UTC'
        FROM unnest(${column((page) => page.pageId, sql`int`)}, ${column((page) => page.action, sql`text`)},
                    ${column((page) => JSON.stringify(page.changes), sql`jsonb`)}) AS r(page_id, action, changes)
        JOIN public.website_pages p ON p.id = r.page_id
        ORDER BY p.id`,
  )
}
