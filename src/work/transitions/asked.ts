import { sql, type SQL } from 'drizzle-orm'
import type { Db, Tx } from '../../db/client.ts'

/** A work item that can be rung: what the bell needs to know of it. */
export interface Ring {
  workId: number
  job: string
  generation: number
  label: string
  attempts: number
  nextAt: Date
}

const unfinished = sql`('owed', 'running', 'held')`

const ringColumns = sql`w.id AS "workId", w.job, w.generation, w.label, w.attempts, w.next_at AS "nextAt"`

async function rings(db: Db | Tx, statement: SQL): Promise<Ring[]> {
  const { rows } = await db.execute(statement)
  return rows.map((row) => ({
    workId: Number(row.workId),
    job: row.job as string,
    generation: row.generation as number,
    label: row.label as string,
    attempts: row.attempts as number,
    nextAt: new Date(row.nextAt as string),
  }))
}

const ids = (values: readonly number[]) => sql`${sql.param(values)}::bigint[]`

/**
 * Owes finished or held items again from their first attempt, at once; attempts already made stay in the ledger.
 * Items whose key has another unfinished item are left alone.
 */
export function retry(db: Db | Tx, workIds: readonly number[], trigger: 'retry' | 'replay'): Promise<Ring[]> {
  // Primary key; work_unfinished_key for the twin.
  return rings(
    db,
    sql`UPDATE website_worker.work w
        SET state = 'owed', reason = NULL, generation = generation + 1, attempts = 0, crashes = 0, trigger = ${trigger},
            next_at = now(), rung_at = NULL, lease_until = NULL, lease_token = NULL, result = NULL, finished_at = NULL
        WHERE w.id = ANY (${ids(workIds)}) AND w.state IN ('failed', 'cancelled', 'done', 'held')
          AND NOT EXISTS (SELECT FROM website_worker.work o
                          WHERE o.job = w.job AND o.key = w.key AND o.id <> w.id AND o.state IN ${unfinished})
        RETURNING ${ringColumns}`,
  )
}

/** Owes a waiting item now instead of later. */
export function promote(db: Db | Tx, workIds: readonly number[]): Promise<Ring[]> {
  // Primary key.
  return rings(
    db,
    sql`UPDATE website_worker.work w
        SET generation = generation + 1, next_at = now(), rung_at = NULL, trigger = 'retry'
        WHERE w.id = ANY (${ids(workIds)}) AND w.state = 'owed'
        RETURNING ${ringColumns}`,
  )
}

/** Ends unfinished items for good; a run under way may still complete its effect, but not the item. */
export function cancel(db: Db | Tx, workIds: readonly number[], reason: string): Promise<Ring[]> {
  // Primary key.
  return rings(
    db,
    sql`UPDATE website_worker.work w
        SET state = 'cancelled', reason = ${reason}, generation = generation + 1, rung_at = NULL,
            lease_until = NULL, lease_token = NULL, finished_at = now()
        WHERE w.id = ANY (${ids(workIds)}) AND w.state IN ${unfinished}
        RETURNING ${ringColumns}`,
  )
}

/** Gives up items that can never run, with words for a person. */
export function giveUp(db: Db | Tx, workIds: readonly number[], error: string): Promise<Ring[]> {
  // Primary key.
  return rings(
    db,
    sql`UPDATE website_worker.work w
        SET state = 'failed', reason = 'given up', last_error = ${error}, generation = generation + 1, rung_at = NULL,
            finished_at = now()
        WHERE w.id = ANY (${ids(workIds)}) AND w.state = 'owed'
        RETURNING ${ringColumns}`,
  )
}

/** Holds what is owed of some jobs at a site; what is already running ends first. Returns how many. */
export async function holdSite(db: Db | Tx, jobs: readonly string[], siteId: number, reason: string): Promise<number> {
  // work_owed_unrung and work_owed_rung, by state.
  const { rowCount } = await db.execute(
    sql`UPDATE website_worker.work SET state = 'held', reason = ${reason}, generation = generation + 1, rung_at = NULL
        WHERE state = 'owed' AND job = ANY (${sql.param(jobs)}::text[]) AND site_id = ${siteId}`,
  )
  return rowCount ?? 0
}

/**
 * Owes again what a site or domain switch held and no longer holds. The switch is asked row by row, because an event
 * accepted in a transaction that began before the switch was turned may have been held after it.
 * @returns how many were released, at most `limit`.
 */
export async function releaseUnblocked(db: Db | Tx, limit = 5_000): Promise<number> {
  // work_held: distinct (job, site, reason) first, then the rows of those that are free.
  const { rowCount } = await db.execute(
    sql`WITH free AS MATERIALIZED (
          SELECT g.job, g.site_id FROM (
            SELECT DISTINCT job, site_id FROM website_worker.work
            WHERE state = 'held' AND reason IN ('domain off', 'paused')) g
          JOIN website_worker.jobs j USING (job)
          WHERE website_worker.hold_reason(j.domain, g.site_id) IS NULL),
        released AS (
          SELECT w.id FROM website_worker.work w JOIN free f ON f.job = w.job AND f.site_id IS NOT DISTINCT FROM w.site_id
          WHERE w.state = 'held' AND w.reason IN ('domain off', 'paused')
          ORDER BY w.id LIMIT ${limit} FOR UPDATE OF w SKIP LOCKED)
        UPDATE website_worker.work w
        SET state = 'owed', reason = NULL, generation = w.generation + 1, rung_at = NULL, next_at = greatest(w.next_at, now())
        FROM released r WHERE w.id = r.id`,
  )
  return rowCount ?? 0
}

/** Owes again held items, whatever held them. */
export function release(db: Db | Tx, workIds: readonly number[]): Promise<Ring[]> {
  // Primary key.
  return rings(
    db,
    sql`UPDATE website_worker.work w
        SET state = 'owed', reason = NULL, generation = generation + 1, rung_at = NULL, next_at = now()
        WHERE w.id = ANY (${ids(workIds)}) AND w.state = 'held'
        RETURNING ${ringColumns}`,
  )
}
