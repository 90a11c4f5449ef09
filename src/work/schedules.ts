import { sql, type SQL } from 'drizzle-orm'
import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import { enqueueItem } from '../db/queries/enqueue.ts'
import { pgErrorOf } from '../db/queries/pg-error.ts'
import { isUnreachable } from '../db/unreachable.ts'
import { AppError, messageOf } from '../errors.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import { spreadSeconds } from '../queues/spread.ts'

/** Keeps one row per scheduled job for the whole installation; a changed period takes effect at once. */
export async function keepSchedules(db: Db, jobs: readonly JobDefinition[]): Promise<void> {
  for (const job of jobs) {
    if (!job.schedule) continue
    const { everySeconds } = job.schedule
    // Primary key; a row per scheduled job.
    await db.execute(
      sql`INSERT INTO website_worker.schedules AS s (site_id, job, every_seconds, offset_seconds, next_at)
          VALUES (0, ${job.name}, ${everySeconds}, ${spreadSeconds(job.name, 0, everySeconds)}, now())
          ON CONFLICT (site_id, job) DO UPDATE SET every_seconds = excluded.every_seconds, next_at = now()
          WHERE s.every_seconds <> excluded.every_seconds`,
    )
  }
}

/** How long one call works: a row that someone else stands in the way of costs a lock timeout. */
const mostMs = 1_000

/**
 * Turns due schedules into work items; runs missed while nobody ran become one. A row that can't become an item is
 * logged and put off, so that it keeps no other waiting: for good reasons until its next period, else for 5 s.
 * Returns how many became one.
 */
export async function owedBySchedule(db: Db, log: Pick<Logger, 'warn'>): Promise<number> {
  // schedules_next_at; jobs_pkey. A job that no release knows waits for one that does.
  const { rows } = await db.execute<{ siteId: number; job: string }>(
    sql`SELECT s.site_id AS "siteId", s.job FROM website_worker.schedules s
        WHERE s.next_at <= now() AND EXISTS (SELECT FROM website_worker.jobs j WHERE j.job = s.job)
        ORDER BY s.next_at LIMIT 1000`,
  )
  const began = performance.now()
  let owed = 0
  for (const row of rows) {
    if (performance.now() - began > mostMs) break
    try {
      const payload = row.siteId === 0 ? {} : { siteId: row.siteId }
      await enqueueItem(db, row.job, payload, { rung: false, trigger: 'schedule' })
      owed++
    } catch (error) {
      if (isUnreachable(error)) throw error
      log.warn(
        { job: row.job, site: row.siteId, err: messageOf(pgErrorOf(error) ?? error) },
        'a schedule could not be followed',
      )
      if (!(error instanceof AppError && error.code === 'invalid')) {
        await putOff(db, row, sql`now() + interval '5 s'`)
        continue
      }
    }
    // Counted from the epoch, so a late tick never shifts the rhythm.
    await putOff(
      db,
      row,
      sql`to_timestamp((floor((extract(epoch FROM now()) - offset_seconds) / every_seconds) + 1) * every_seconds + offset_seconds)`,
    )
  }
  return owed
}

async function putOff(db: Db, { siteId, job }: { siteId: number; job: string }, nextAt: SQL): Promise<void> {
  // Primary key.
  await db.execute(
    sql`UPDATE website_worker.schedules SET next_at = ${nextAt} WHERE site_id = ${siteId} AND job = ${job}`,
  )
}
