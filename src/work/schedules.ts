import { createHash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { enqueueItem } from '../db/queries/enqueue.ts'
import type { JobDefinition } from '../queues/define-job.ts'

/** Seconds into the period at which a site's run falls, the same every time and different from its neighbours'. */
export function spreadSeconds(job: string, siteId: number, everySeconds: number): number {
  return createHash('sha256').update(`${job}:${siteId}`).digest().readUInt32BE() % everySeconds
}

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

/** Turns due schedules into work items; runs missed while nobody ran become one. Returns how many. */
export async function owedBySchedule(db: Db): Promise<number> {
  // schedules_next_at.
  const { rows } = await db.execute(
    sql`SELECT site_id, job FROM website_worker.schedules WHERE next_at <= now() ORDER BY next_at LIMIT 1000`,
  )
  for (const row of rows) {
    const siteId = row.site_id as number
    await enqueueItem(db, row.job as string, siteId === 0 ? {} : { siteId }, { rung: false, trigger: 'schedule' })
    // Primary key. The next instant is counted from the epoch, so a late tick never shifts the rhythm.
    await db.execute(
      sql`UPDATE website_worker.schedules
          SET next_at = to_timestamp((floor((extract(epoch FROM now()) - offset_seconds) / every_seconds) + 1) * every_seconds + offset_seconds)
          WHERE site_id = ${siteId} AND job = ${row.job}`,
    )
  }
  return rows.length
}
