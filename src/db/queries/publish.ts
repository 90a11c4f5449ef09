import { sql, type SQL } from 'drizzle-orm'
import { onOneConnection, type Db, type Tx } from '../client.ts'
import { isUnreachable } from '../unreachable.ts'
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

const ints = (values: readonly number[]) => sql`${sql.param(values)}::int[]`

/** A page as `publish_pages` left it. */
interface PageRow {
  pageId: number
  outcome: string
  status: string | null
  /** Below zero before its time. */
  lateMs: number | null
  version: number
  wanted: number | null
  publishedAt: string
}

function publicationOf(row: PageRow | undefined): Publication {
  switch (row?.outcome) {
    case 'published':
      return {
        kind: 'published',
        version: row.version,
        publishedAt: new Date(row.publishedAt),
        latenessMs: row.lateMs ?? 0,
      }
    case undefined:
    case 'deleted':
      return { kind: 'unneeded', why: 'the page is deleted' }
    case 'unscheduled':
      if (row?.status === 'published') return { kind: 'unneeded', why: 'the page is published already' }
      if (row?.status === 'scheduled') return { kind: 'unneeded', why: 'the page is scheduled for no time' }
      return { kind: 'unneeded', why: `the page is not scheduled but ${row?.status ?? 'without a status'}` }
    case 'early':
      return { kind: 'early', dueInMs: -(row.lateMs ?? 0) }
    case 'mismatch':
      return { kind: 'mismatch', wanted: row.wanted ?? 0, version: row.version }
    case 'locked':
      return { kind: 'later', error: 'another transaction has locked the page, or a webhook of its site' }
    default:
      return { kind: 'held', reason: row?.outcome ?? '' }
  }
}

/** Publishes what is due of some pages, in one transaction: all of it, or nothing. */
async function publishTogether(db: Db, pageIds: readonly number[]): Promise<Publication[]> {
  // website_worker.publish_pages names its indexes.
  const { rows } = await db.execute(
    sql`SELECT page_id AS "pageId", outcome, status, late_ms AS "lateMs", version, wanted, published_at AS "publishedAt"
        FROM website_worker.publish_pages(${ints(pageIds)})`,
  )
  const byPage = new Map((rows as unknown as PageRow[]).map((row) => [row.pageId, row]))
  return pageIds.map((id) => publicationOf(byPage.get(id)))
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
export function publishPages(db: Db, pageIds: readonly number[]): Promise<Publication[]> {
  return onOneConnection(db, (connection) => publishOrSplit(connection, pageIds))
}

async function publishOrSplit(connection: Db, pageIds: readonly number[]): Promise<Publication[]> {
  try {
    return await publishTogether(connection, pageIds)
  } catch (error) {
    const failure = failureOf(error)
    if (pageIds.length <= 1) return pageIds.map(() => failure)
  }
  // Halves, so that one broken page among hundreds is found in a few steps.
  const middle = Math.ceil(pageIds.length / 2)
  const first = await publishOrSplit(connection, pageIds.slice(0, middle))
  return [...first, ...(await publishOrSplit(connection, pageIds.slice(middle)))]
}

/** How far off the times of pages are, ms, below zero for what is due; by page. */
export async function readDueTimes(db: Db, pageIds: readonly number[]): Promise<Map<number, number>> {
  // Primary key.
  const { rows } = await db.execute(
    sql`SELECT id, (extract(epoch FROM publish_at - (clock_timestamp() AT TIME ZONE 'UTC')) * 1000)::float8 AS "dueInMs"
        FROM public.website_pages WHERE id = ANY (${ints(pageIds)}) AND publish_at IS NOT NULL`,
  )
  return new Map(rows.map((row) => [row.id as number, row.dueInMs as number]))
}

/** Sets items to the very time their pages are scheduled for by now. */
export async function moveToPages(tx: Db | Tx, workIds: readonly number[]): Promise<void> {
  // Primary keys; this transaction has locked the items that it just ended runs of.
  await tx.execute(
    sql`UPDATE website_worker.work w
        SET next_at = p.publish_at AT TIME ZONE 'UTC', payload = w.payload || jsonb_build_object(
          'publishAt', website_worker.instant_text(p.publish_at AT TIME ZONE 'UTC'))
        FROM public.website_pages p
        WHERE w.id = ANY (${sql.param(workIds)}::bigint[]) AND w.job = 'publish-page' AND w.state = 'owed'
          AND p.id = CASE WHEN w.key ~ '^[0-9]{1,10}$' THEN w.key::bigint END
          AND p.status = 'scheduled' AND isfinite(p.publish_at)`,
  )
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
