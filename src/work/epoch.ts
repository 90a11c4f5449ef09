import { randomUUID } from 'node:crypto'
import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { listPausedQueues } from '../db/queries/queue-pauses.ts'
import { AppError } from '../errors.ts'
import type { QueueBackend } from './backend.ts'
import { isLed } from './leader.ts'
import { rearmRung, type RungPosition } from './transitions.ts'

const batchSize = 5_000

async function readEpoch(db: Db): Promise<{ queueId: string | null; counter: number }> {
  // One row.
  const { rows } = await db.execute(sql`SELECT queue_id, counter FROM website_worker.epoch WHERE id = 1`)
  return { queueId: (rows[0]?.queue_id as string | null) ?? null, counter: Number(rows[0]?.counter ?? 0) }
}

/**
 * Asks whether the queue still holds what was put into it, and counts one further. The counter goes up in the queue
 * first and is then kept in Postgres, which is read first here: a queue that is behind was wiped, swapped or restored.
 */
export async function keepEpoch(db: Db, backend: QueueBackend): Promise<'kept' | 'lost'> {
  const known = await readEpoch(db)
  if (known.queueId === null) return 'lost'
  const counter = await backend.advanceMark(known.queueId)
  if (counter === null || counter <= known.counter) return 'lost'
  // One row.
  await db.execute(
    sql`UPDATE website_worker.epoch SET counter = greatest(counter, ${counter}), changed_at = now()
        WHERE id = 1 AND queue_id = ${known.queueId}`,
  )
  return 'kept'
}

/**
 * Begins a new epoch after a loss: paused queues are paused again, everything rung so far is owed a new ring, and only
 * then is the queue marked as ours, so that a crash on the way starts over. Pauses come first, since items already
 * taken back may be rung while there are still others to take back.
 * @returns how many rings were taken back, and whether there was no queue before.
 */
export async function beginEpoch(
  db: Db,
  backend: QueueBackend,
  jobs: readonly string[],
  stillLeading: () => Promise<boolean> = async () => true,
): Promise<{ rearmed: number; first: boolean }> {
  const known = await readEpoch(db)
  const { rows: clock } = await db.execute(sql`SELECT now() AS now`)
  const before = new Date(clock[0]?.now as string)
  await restorePauses(db, backend, jobs)
  let rearmed = 0
  // Until a walk finds nothing: each leaves out rows that someone has locked.
  for (let found = 1; found > 0; rearmed += found) {
    found = 0
    let position: RungPosition | undefined
    do {
      const batch = await rearmRung(db, before, batchSize, position)
      if (!(await stillLeading())) throw new Error('another process has become the dispatcher')
      found += batch.rearmed
      position = batch.next
    } while (position)
  }
  const mark = { queueId: randomUUID(), counter: known.counter + 1 }
  await backend.writeMark(mark)
  // One row.
  await db.execute(
    sql`UPDATE website_worker.epoch
        SET queue_id = ${mark.queueId}, counter = ${mark.counter}, changed_at = now(),
            alarms = alarms + ${known.queueId === null ? 0 : 1}
        WHERE id = 1`,
  )
  return { rearmed, first: known.queueId === null }
}

/** Pauses the queues that people paused, and resumes the others. */
async function restorePauses(db: Db, backend: QueueBackend, jobs: readonly string[]): Promise<void> {
  const paused = new Set(await listPausedQueues(db))
  await Promise.all(
    jobs.map(async (job) => {
      const queue = backend.queue(job)
      if ((await queue.isPaused()) !== paused.has(job)) await (paused.has(job) ? queue.pause() : queue.resume())
    }),
  )
}

/**
 * Refuses a queue that isn't the one a living process works with: two queues on one database would take each other's
 * rings for lost, for ever. A wiped or swapped queue is fine once the process that knew the old one is gone.
 * @throws AppError `misconfigured`
 */
export async function refuseSecondQueue(
  db: Db,
  backend: QueueBackend,
  options: { patienceMs?: number } = {},
): Promise<void> {
  const deadline = Date.now() + (options.patienceMs ?? 8_000)
  for (;;) {
    const [known, mark, led] = [await readEpoch(db), await backend.readMark(), await isLed(db)]
    if (known.queueId === null || !led || mark?.queueId === known.queueId) return
    if (Date.now() > deadline) {
      throw new AppError(
        'misconfigured',
        'Another process works on this database with a different queue. Give both the same REDIS_URL and QUEUE_PREFIX, or stop the other one first.',
      )
    }
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}
