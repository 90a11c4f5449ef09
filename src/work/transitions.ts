import { sql, type SQL } from 'drizzle-orm'
import type { Db, Tx } from '../db/client.ts'

/** A work item that can be rung: what the bell needs to know of it. */
export interface Ring {
  workId: number
  job: string
  generation: number
  label: string
  attempts: number
  nextAt: Date
}

/** How a run ended, as the row is told. */
export interface Finish {
  workId: number
  /** `attempts` when the run began: a run that was overtaken changes nothing. */
  attemptsBefore: number
  /** Lease of the run, for jobs that take one. */
  leaseToken: string | null
  outcome: 'done' | 'retry' | 'held' | 'failed'
  nextAt: Date | null
  error: string | null
  reason: string | null
  result: unknown
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

const generations = (of: readonly { workId: number; generation: number }[]) =>
  sql`unnest(${sql.param(of.map((r) => r.workId))}::bigint[], ${sql.param(of.map((r) => r.generation))}::int[]) AS r(id, generation)`

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

/** Takes the lease of an owed item; false when it was overtaken. */
export async function takeLease(db: Db, ring: { workId: number; generation: number }, token: string, leaseMs: number) {
  // Primary key.
  const { rowCount } = await db.execute(
    sql`UPDATE website_worker.work
        SET state = 'running', lease_token = ${token}, lease_until = now() + ${leaseMs} * interval '1 ms'
        WHERE id = ${ring.workId} AND generation = ${ring.generation} AND state = 'owed'`,
  )
  return rowCount === 1
}

/** Keeps a lease; false when it is lost, and the run must stop. */
export async function renewLease(db: Db, workId: number, token: string, leaseMs: number): Promise<boolean> {
  // Primary key.
  const { rowCount } = await db.execute(
    sql`UPDATE website_worker.work SET lease_until = now() + ${leaseMs} * interval '1 ms'
        WHERE id = ${workId} AND state = 'running' AND lease_token = ${token}`,
  )
  return rowCount === 1
}

/** Gives a lease back untouched, for a run that a shutdown cut short. */
export async function returnLease(db: Db, workId: number, token: string): Promise<void> {
  // Primary key.
  await db.execute(
    sql`UPDATE website_worker.work
        SET state = 'owed', generation = generation + 1, rung_at = NULL, lease_token = NULL, lease_until = NULL
        WHERE id = ${workId} AND state = 'running' AND lease_token = ${token}`,
  )
}

/** Counts a run that ended with its process; the item is given up at `maxCrashes`. */
export async function countCrash(db: Db, ring: { workId: number; generation: number }, maxCrashes: number) {
  // Primary key.
  await db.execute(
    sql`UPDATE website_worker.work
        SET crashes = crashes + 1,
            state = CASE WHEN crashes + 1 >= ${maxCrashes} THEN 'failed' ELSE state END,
            reason = CASE WHEN crashes + 1 >= ${maxCrashes} THEN 'crashed' ELSE reason END,
            last_error = CASE WHEN crashes + 1 >= ${maxCrashes} THEN 'the process ended ' || (crashes + 1) || ' times during this run' ELSE last_error END,
            finished_at = CASE WHEN crashes + 1 >= ${maxCrashes} THEN now() END
        WHERE id = ${ring.workId} AND generation = ${ring.generation} AND state = 'owed'`,
  )
}

/** Owes again, or gives up, what a vanished process had leased. Returns how many. */
export async function reclaimExpiredLeases(db: Db, maxCrashes: number): Promise<number> {
  // work_running.
  const { rowCount } = await db.execute(
    sql`UPDATE website_worker.work
        SET crashes = crashes + 1, generation = generation + 1, rung_at = NULL, lease_token = NULL, lease_until = NULL,
            state = CASE WHEN crashes + 1 >= ${maxCrashes} THEN 'failed' ELSE 'owed' END,
            reason = CASE WHEN crashes + 1 >= ${maxCrashes} THEN 'crashed' END,
            finished_at = CASE WHEN crashes + 1 >= ${maxCrashes} THEN now() END,
            last_error = 'the process ended during this run'
        WHERE state = 'running' AND lease_until < now()`,
  )
  return rowCount ?? 0
}

/**
 * Ends runs, many in one statement. A run without a lease may finish its item as done even after a re-arm (the effect
 * happened); any other end counts only if no other run ended in between.
 * @returns the ids that changed.
 */
export async function finish(tx: Db | Tx, runs: readonly Finish[]): Promise<Set<number>> {
  const rows = runs.toSorted((a, b) => a.workId - b.workId)
  const column = <T>(pick: (run: Finish) => T, type: string) => sql`${sql.param(rows.map(pick))}::${sql.raw(type)}[]`
  // Somebody asked again while it ran.
  const anew = sql`(w.again AND r.outcome IN ('done', 'failed'))`
  // Primary key, in id order.
  const { rows: changed } = await tx.execute(
    sql`UPDATE website_worker.work w
        SET state = CASE WHEN r.outcome = 'retry' OR ${anew} THEN 'owed' ELSE r.outcome END,
            reason = CASE WHEN ${anew} THEN NULL ELSE r.reason END,
            again = false,
            attempts = CASE WHEN ${anew} THEN 0 ELSE w.attempts + (r.outcome <> 'held')::int END,
            generation = w.generation + (r.outcome = 'retry' OR ${anew})::int,
            next_at = CASE WHEN ${anew} THEN now() ELSE coalesce(r.next_at, w.next_at) END,
            rung_at = CASE WHEN r.outcome IN ('retry', 'held') OR ${anew} THEN NULL ELSE w.rung_at END,
            trigger = CASE WHEN r.outcome = 'retry' AND w.trigger NOT IN ('retry', 'replay') THEN 'schedule' ELSE w.trigger END,
            last_error = CASE WHEN r.outcome = 'done' THEN NULL ELSE coalesce(r.error, w.last_error) END,
            result = r.result::jsonb,
            lease_until = NULL, lease_token = NULL,
            finished_at = CASE WHEN r.outcome IN ('done', 'failed') AND NOT ${anew} THEN now() END
        FROM unnest(${column((r) => r.workId, 'bigint')}, ${column((r) => r.attemptsBefore, 'int')},
                    ${column((r) => r.leaseToken, 'uuid')}, ${column((r) => r.outcome, 'text')},
                    ${column((r) => r.nextAt?.toISOString() ?? null, 'timestamptz')}, ${column((r) => r.error, 'text')},
                    ${column((r) => r.reason, 'text')},
                    ${column((r) => (r.result === undefined ? null : JSON.stringify(r.result)), 'text')})
             AS r(id, attempts_before, token, outcome, next_at, error, reason, result)
        WHERE w.id = r.id AND CASE
          WHEN r.token IS NOT NULL THEN w.state = 'running' AND w.lease_token = r.token
          WHEN r.outcome = 'done' THEN w.state IN ('owed', 'held')
          ELSE w.state = 'owed' AND w.attempts = r.attempts_before END
        RETURNING w.id`,
  )
  return new Set(changed.map((row) => Number(row.id)))
}

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
