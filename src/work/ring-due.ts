import { sql, type SQL } from 'drizzle-orm'
import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import { openLanes } from '../db/queries/lanes.ts'
import { atMost } from '../deadline.ts'
import { messageOf } from '../errors.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import type { QueueBackend } from './backend.ts'
import type { Bell } from './bell.ts'
import { cancel, delayMs, giveUp, markRung, park, type Ring } from './transitions.ts'

/** Later than this stays in rows, so that the queue stays small through a receiver's long outage. */
export const horizonMs = 600_000

const pageSize = 1_000

/** Items for one remote that a call rings before the others have to wait for their turn. */
export const mostPerLane = 100

type DueItem = Ring & { payload: unknown; subjectExists: boolean }

/** Finds which remote items go to, and whether what goes there has to wait for its turn. */
export type LanesOf = (
  db: Db,
  items: readonly { workId: number; payload: unknown }[],
) => Promise<Map<number, { lane: string; isManaged: boolean }>>

interface Page {
  rings: DueItem[]
  /** Position behind the page's last row; undefined at the end. */
  next: SQL | undefined
}

async function owedPage(db: Db, job: JobDefinition, after: SQL | undefined): Promise<Page> {
  const subject = job.subject
    ? sql`EXISTS (SELECT FROM public.${sql.identifier(job.subject.table)} s
                  WHERE s.id = CASE WHEN w.payload ->> ${job.subject.field} ~ '^[0-9]{1,10}$'
                                    THEN (w.payload ->> ${job.subject.field})::bigint END)`
    : sql`true`
  // work_owed_unrung, then the subject's primary key.
  const { rows } = await db.execute(
    sql`SELECT w.id, w.generation, w.label, w.attempts, w.payload, w.next_at::text AS next_at, ${delayMs},
               ${subject} AS subject_exists
        FROM website_worker.work w
        WHERE w.job = ${job.name} AND w.state = 'owed' AND w.rung_at IS NULL AND w.lane IS NULL
          AND w.next_at <= now() + ${horizonMs} * interval '1 ms' ${after ?? sql``}
        ORDER BY w.next_at, w.id LIMIT ${pageSize}`,
  )
  const last = rows.at(-1)
  return {
    rings: rows.map((row) => ({
      workId: Number(row.id),
      job: job.name,
      generation: row.generation as number,
      label: row.label as string,
      attempts: row.attempts as number,
      delayMs: Math.max(0, (row.delayMs as number) - (job.ringAheadMs ?? 0)),
      payload: row.payload,
      subjectExists: row.subject_exists as boolean,
    })),
    next:
      rows.length < pageSize || !last
        ? undefined
        : sql`AND (w.next_at, w.id) > (${last.next_at}::timestamptz, ${last.id})`,
  }
}

/** Ends what can never run, and returns the rest: broken rows must not stand in a queue before healthy ones. */
async function sortOut(db: Db, job: JobDefinition, page: Page): Promise<DueItem[]> {
  const healthy: DueItem[] = []
  const orphans: number[] = []
  const broken = new Map<string, number[]>()
  for (const ring of page.rings) {
    const parsed = job.schema.safeParse(ring.payload)
    if (!parsed.success) {
      const issue = parsed.error.issues[0]
      const words = `payload: ${issue?.path.join('.') || 'it'}: ${issue?.message}`
      broken.set(words, [...(broken.get(words) ?? []), ring.workId])
    } else if (ring.subjectExists) healthy.push(ring)
    else orphans.push(ring.workId)
  }
  for (const [words, workIds] of broken) await giveUp(db, workIds, words)
  if (orphans.length > 0) await cancel(db, orphans, `its ${job.subject?.table} row is gone`)
  return healthy
}

/** Parks what has to wait for its turn, or is too much for one remote, and returns the rest; counts those in `rungOf`. */
async function thatHaveTheirTurn(
  db: Db,
  items: DueItem[],
  lanesOf: LanesOf | undefined,
  rungOf: Map<string, number>,
): Promise<DueItem[]> {
  if (!lanesOf || items.length === 0) return items
  const lanes = await lanesOf(db, items)
  const parked: { workId: number; lane: string }[] = []
  const rest = items.filter(({ workId }) => {
    const found = lanes.get(workId)
    if (!found) return true
    const rung = rungOf.get(found.lane) ?? 0
    const waits = found.isManaged || rung >= mostPerLane
    if (waits) parked.push({ workId, lane: found.lane })
    else rungOf.set(found.lane, rung + 1)
    return !waits
  })
  if (parked.length > 0) {
    await openLanes(db, [...new Set(parked.map(({ lane }) => lane))])
    await park(db, parked)
  }
  return rest
}

export interface RingDueOptions {
  /** How long a call may ring, ms; the first page of every job is taken whatever it costs. Default: 800. */
  budgetMs?: number
  /** How long a call may take, ms, with the time in which it only ended what can never run. Default: 5000. */
  totalMs?: number
  /** Rings of one job that may wait in the queue before no further page is added. Default: 20000. */
  mostInQueue?: number
  /** How long the queue may take to say what it holds, ms. Default: 2000. */
  deadlineMs?: number
}

/**
 * Rings what is due soon and un-rung, a page of each job in turn, until the time is over or the queue holds enough of
 * the job. A page the queue refuses ends the job's turn; the next call begins behind it and the one after at the head
 * again, so that neither a page that can never be rung nor a queue that was away for a moment changes much.
 * Calls return how many were rung.
 */
export function createDueRinger(
  deps: { db: Db; bell: Bell; backend: QueueBackend; log: Logger; lanesOf?: ReadonlyMap<string, LanesOf> },
  options: RingDueOptions = {},
): (jobs: readonly JobDefinition[], stillLeading: () => Promise<boolean>) => Promise<number> {
  const { budgetMs = 800, totalMs = 5_000, mostInQueue = 20_000, deadlineMs = 2_000 } = options
  const behindRefused = new Map<string, SQL>()

  /** Those that the queue has room for: what waits for its time gives way to what is due. */
  async function thatFit(job: string, rings: Ring[]): Promise<Ring[]> {
    const counts = await atMost(deadlineMs, deps.backend.queue(job).getJobCounts('waiting', 'prioritized', 'delayed'))
    if (counts === 'late') throw new Error('the queue did not answer')
    const { delayed = 0, ...due } = counts
    const waiting = Object.values(due).reduce((sum, count) => sum + count, 0)
    if (waiting >= mostInQueue) return []
    return waiting + delayed >= mostInQueue ? rings.filter((ring) => !ring.delayMs) : rings
  }

  /** Rings one page; `next` is undefined when the job's turn is over. */
  async function ringPage(
    job: JobDefinition,
    after: SQL | undefined,
    rungOf: Map<string, number>,
  ): Promise<{ rung: number; next: SQL | undefined }> {
    let page: Page | undefined
    try {
      page = await owedPage(deps.db, job, after)
      const sound = await sortOut(deps.db, job, page)
      const rings = await thatHaveTheirTurn(deps.db, sound, deps.lanesOf?.get(job.name), rungOf)
      if (rings.length === 0) return { rung: 0, next: page.next }
      const fit = await thatFit(job.name, rings)
      if (fit.length > 0) await deps.bell.ringNow(job.name, fit)
      if (fit.length > 0) await markRung(deps.db, fit)
      return { rung: fit.length, next: fit.length === rings.length ? page.next : undefined }
    } catch (error) {
      deps.log.warn({ job: job.name, err: messageOf(error) }, 'a page could not be rung')
      if (page?.next) behindRefused.set(job.name, page.next)
      return { rung: 0, next: undefined }
    }
  }

  return async function ringDue(jobs, stillLeading) {
    const began = performance.now()
    let rung = 0
    let ringingMs = 0
    const rungOf = new Map(jobs.map((job) => [job, new Map<string, number>()]))
    let open: { job: JobDefinition; after: SQL | undefined }[] = jobs.map((job) => {
      const after = behindRefused.get(job.name)
      behindRefused.delete(job.name)
      return { job, after }
    })
    for (let round = 0; open.length > 0 && deps.bell.ready(); round++) {
      const roundBegan = performance.now()
      if (round > 0 && (ringingMs >= budgetMs || roundBegan - began >= totalMs || !(await stillLeading()))) break
      // Side by side, so that a queue that doesn't answer costs one deadline and not one for each job.
      const pages = await Promise.all(
        open.map(async ({ job, after }) => ({ job, ...(await ringPage(job, after, rungOf.get(job) ?? new Map())) })),
      )
      const rungNow = pages.reduce((sum, page) => sum + page.rung, 0)
      if (rungNow > 0) ringingMs += performance.now() - roundBegan
      rung += rungNow
      open = pages.flatMap(({ job, next }) => (next ? [{ job, after: next }] : []))
    }
    return rung
  }
}
