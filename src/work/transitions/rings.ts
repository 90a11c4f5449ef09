import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../../db/client.ts'

type RungOnce = { workId: number; generation: number }

/** Changes items whose generation is still the one given. */
async function changeOwed(db: Db, of: readonly RungOnce[], set: SQL, only = sql``): Promise<void> {
  const [ids, generations] = [of.map((ring) => ring.workId), of.map((ring) => ring.generation)]
  // Primary key; locked in id order, as every transition of many rows does.
  await db.execute(
    sql`WITH locked AS MATERIALIZED (
          SELECT w.id FROM website_worker.work w
          JOIN unnest(${sql.param(ids)}::bigint[], ${sql.param(generations)}::int[]) AS r(id, generation) USING (id)
          WHERE w.id = ANY (${sql.param(ids)}::bigint[]) AND w.generation = r.generation AND w.state = 'owed' ${only}
          ORDER BY w.id FOR UPDATE OF w)
        UPDATE website_worker.work w SET ${set} WHERE w.id = ANY (ARRAY(SELECT id FROM locked))`,
  )
}

/** Notes that these generations were handed to the queue. */
export function markRung(db: Db, given: readonly RungOnce[]): Promise<void> {
  return changeOwed(db, given, sql`rung_at = now()`)
}

/** Takes back a promise to ring: the dispatcher finds these again. */
export function unmarkRung(db: Db, given: readonly RungOnce[]): Promise<void> {
  return changeOwed(db, given, sql`rung_at = NULL`)
}

/** Re-arms owed items whose ring is lost, under a new generation. */
export function rearm(db: Db, lost: readonly RungOnce[]): Promise<void> {
  return changeOwed(db, lost, sql`generation = w.generation + 1, rung_at = NULL`, sql`AND w.rung_at IS NOT NULL`)
}

/** Lets owed items that were not rung wait for their turn in lanes. */
export async function park(db: Db, items: readonly { workId: number; lane: string }[]): Promise<void> {
  const [ids, lanes] = [items.map((item) => item.workId), items.map((item) => item.lane)]
  // Primary key; locked in id order, as every transition of many rows does.
  await db.execute(
    sql`WITH locked AS MATERIALIZED (
          SELECT id FROM website_worker.work
          WHERE id = ANY (${sql.param(ids)}::bigint[]) AND state = 'owed' AND rung_at IS NULL AND lane IS NULL
          ORDER BY id FOR UPDATE)
        UPDATE website_worker.work w SET lane = r.lane
        FROM unnest(${sql.param(ids)}::bigint[], ${sql.param(lanes)}::text[]) AS r(id, lane)
        WHERE w.id = r.id AND w.id = ANY (ARRAY(SELECT id FROM locked))`,
  )
}

/** Takes items that wait for their turn out of their lanes: the dispatcher finds where they go now. */
export async function unpark(db: Db, workIds: readonly number[]): Promise<void> {
  // Primary key; locked in id order, as every transition of many rows does.
  await db.execute(
    sql`WITH locked AS MATERIALIZED (
          SELECT id FROM website_worker.work
          WHERE id = ANY (${sql.param(workIds)}::bigint[]) AND state = 'owed' AND rung_at IS NULL AND lane IS NOT NULL
          ORDER BY id FOR UPDATE)
        UPDATE website_worker.work w SET lane = NULL WHERE w.id = ANY (ARRAY(SELECT id FROM locked))`,
  )
}

/** Where a walk through what was rung has come to. */
export interface RungPosition {
  /** With all the digits Postgres keeps. */
  nextAt: string
  workId: number
}

/**
 * Re-arms one batch of everything that was rung before `before`, after the queue was lost, and says where to go on:
 * starting over each time would pass everything that was re-armed already.
 */
export async function rearmRung(
  db: Db,
  before: Date,
  limit: number,
  after?: RungPosition,
): Promise<{ rearmed: number; next: RungPosition | undefined }> {
  const behind = after ? sql`AND (w.next_at, w.id) > (${after.nextAt}::timestamptz, ${after.workId})` : sql``
  // work_owed_rung, then the primary key.
  const { rows } = await db.execute(
    sql`WITH batch AS MATERIALIZED (
          SELECT w.id, w.next_at FROM website_worker.work w
          WHERE w.state = 'owed' AND w.rung_at IS NOT NULL AND w.rung_at <= ${before.toISOString()} ${behind}
          ORDER BY w.next_at, w.id LIMIT ${limit} FOR UPDATE SKIP LOCKED),
        rearmed AS (
          UPDATE website_worker.work w SET generation = w.generation + 1, rung_at = NULL
          WHERE w.id = ANY (ARRAY(SELECT id FROM batch)) RETURNING w.id)
        SELECT b.next_at::text AS next_at, b.id, (SELECT count(*) FROM rearmed)::int AS rearmed FROM batch b
        ORDER BY b.next_at DESC, b.id DESC LIMIT 1`,
  )
  const last = rows[0]
  if (!last) return { rearmed: 0, next: undefined }
  return { rearmed: last.rearmed as number, next: { nextAt: last.next_at as string, workId: Number(last.id) } }
}
