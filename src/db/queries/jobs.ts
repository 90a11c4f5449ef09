import { and, eq, sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'
import { work } from '../schema/worker.ts'

/** A work item as it stands, with the database's word on whether its time has come. */
export interface WorkItem {
  workId: number
  job: string
  siteId: number | null
  payload: unknown
  label: string
  state: (typeof work.state.enumValues)[number]
  reason: string | null
  attempts: number
  /** Whether `nextAt` has passed, by the database's clock. */
  due: boolean
  nextAt: Date
  lastError: string | null
  progress: unknown
  result: unknown
  createdAt: Date
  finishedAt: Date | null
}

const columns = {
  workId: work.id,
  job: work.job,
  siteId: work.siteId,
  payload: work.payload,
  label: work.label,
  state: work.state,
  reason: work.reason,
  attempts: work.attempts,
  due: sql<boolean>`${work.nextAt} <= now()`,
  nextAt: work.nextAt,
  lastError: work.lastError,
  progress: work.progress,
  result: work.result,
  createdAt: work.createdAt,
  finishedAt: work.finishedAt,
}

/** The work item with that id, if it is of that job. */
export async function findWorkItem(db: Db | Tx, job: string, workId: number): Promise<WorkItem | undefined> {
  // Primary key.
  const [item] = await db
    .select(columns)
    .from(work)
    .where(and(eq(work.id, workId), eq(work.job, job)))
  return item
}
