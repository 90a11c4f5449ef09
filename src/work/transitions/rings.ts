import { sql } from 'drizzle-orm'
import type { Db } from '../../db/client.ts'

const generations = (of: readonly { workId: number; generation: number }[]) =>
  sql`unnest(${sql.param(of.map((r) => r.workId))}::bigint[], ${sql.param(of.map((r) => r.generation))}::int[]) AS r(id, generation)`

/** Notes that these generations were handed to the queue. */
export async function markRung(db: Db, given: readonly { workId: number; generation: number }[]): Promise<void> {
  // Primary key.
  await db.execute(
    sql`UPDATE website_worker.work w SET rung_at = now()
        FROM ${generations(given)}
        WHERE w.id = r.id AND w.generation = r.generation AND w.state = 'owed'`,
  )
}

/** Takes back a promise to ring: the dispatcher finds these again. */
export async function unmarkRung(db: Db, given: readonly { workId: number; generation: number }[]): Promise<void> {
  // Primary key.
  await db.execute(
    sql`UPDATE website_worker.work w SET rung_at = NULL
        FROM ${generations(given)}
        WHERE w.id = r.id AND w.generation = r.generation AND w.state = 'owed'`,
  )
}

/** Re-arms owed items whose ring is lost, under a new generation. */
export async function rearm(db: Db, lost: readonly { workId: number; generation: number }[]): Promise<void> {
  // Primary key.
  await db.execute(
    sql`UPDATE website_worker.work w SET generation = w.generation + 1, rung_at = NULL
        FROM ${generations(lost)}
        WHERE w.id = r.id AND w.generation = r.generation AND w.state = 'owed' AND w.rung_at IS NOT NULL`,
  )
}

/** Re-arms one batch of everything that was rung before `before`, after the queue was lost. Returns how many. */
export async function rearmRung(db: Db, before: Date, limit: number): Promise<number> {
  // work_owed_rung.
  const { rowCount } = await db.execute(
    sql`UPDATE website_worker.work w SET generation = w.generation + 1, rung_at = NULL
        FROM (SELECT id FROM website_worker.work
              WHERE state = 'owed' AND rung_at IS NOT NULL AND rung_at <= ${before.toISOString()}
              ORDER BY next_at, id LIMIT ${limit} FOR UPDATE SKIP LOCKED) b
        WHERE w.id = b.id`,
  )
  return rowCount ?? 0
}
