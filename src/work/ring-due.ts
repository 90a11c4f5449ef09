import { sql, type SQL } from 'drizzle-orm'
import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import { messageOf } from '../errors.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import type { Bell } from './bell.ts'
import { cancel, giveUp, markRung, type Ring } from './transitions.ts'

/** Later than this stays in rows, so that the queue stays small through a receiver's long outage. */
export const horizonMs = 600_000

const pageSize = 1_000

interface Page {
  rings: (Ring & { payload: unknown; subjectExists: boolean })[]
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
    sql`SELECT w.id, w.generation, w.label, w.attempts, w.payload, w.next_at::text AS next_at, ${subject} AS subject_exists
        FROM website_worker.work w
        WHERE w.job = ${job.name} AND w.state = 'owed' AND w.rung_at IS NULL
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
      nextAt: new Date(row.next_at as string),
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
async function sortOut(db: Db, job: JobDefinition, page: Page): Promise<Ring[]> {
  const healthy: Ring[] = []
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

/**
 * Rings everything that is due soon and un-rung, a page of each job in turn, to the end. A page the queue refuses is
 * left for the next tick and doesn't stop the pages behind it.
 * @returns how many were rung.
 */
export async function ringDue(
  deps: { db: Db; bell: Bell; log: Logger },
  jobs: readonly JobDefinition[],
  stillLeading: () => Promise<boolean>,
): Promise<number> {
  let rung = 0
  let open: { job: JobDefinition; after: SQL | undefined }[] = jobs.map((job) => ({ job, after: undefined }))
  for (let round = 0; open.length > 0; round++) {
    if (!deps.bell.ready() || (round > 0 && !(await stillLeading()))) break
    const more: typeof open = []
    for (const { job, after } of open) {
      const page = await owedPage(deps.db, job, after)
      const rings = await sortOut(deps.db, job, page)
      try {
        if (rings.length > 0) await deps.bell.ringNow(job.name, rings)
        if (rings.length > 0) await markRung(deps.db, rings)
        rung += rings.length
      } catch (error) {
        deps.log.warn({ job: job.name, rings: rings.length, err: messageOf(error) }, 'the queue took no rings')
      }
      if (page.next) more.push({ job, after: page.next })
    }
    open = more
  }
  return rung
}
