import { eq } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'
import { queuePauses } from '../schema/worker.ts'

/** Notes that a person paused or resumed a job's queue: the row is the truth, the queue may forget it. */
export async function setQueuePaused(db: Db | Tx, job: string, paused: boolean): Promise<void> {
  if (paused) await db.insert(queuePauses).values({ job }).onConflictDoNothing()
  else await db.delete(queuePauses).where(eq(queuePauses.job, job))
}

/** The jobs whose queues people paused. */
export async function listPausedQueues(db: Db | Tx): Promise<string[]> {
  const rows = await db.select({ job: queuePauses.job }).from(queuePauses).orderBy(queuePauses.job)
  return rows.map((row) => row.job)
}
