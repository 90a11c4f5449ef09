import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../../db/client.ts'

/** How a run ended, as the row is told. */
export interface Finish {
  workId: number
  /** `attempts` when the run began: a run that was overtaken changes nothing. */
  attemptsBefore: number
  /** Lease of the run, for jobs that take one. */
  leaseToken: string | null
  outcome: 'done' | 'retry' | 'parked' | 'postponed' | 'held' | 'failed'
  /** How long until it runs again, ms, by the database's clock; for `retry` and `postponed`. */
  waitMs: number | null
  /** Where it waits for its turn; for `parked`, and for `retry` where it will have to. */
  lane: string | null
  error: string | null
  reason: string | null
  /** JSON text. */
  result: string | null
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

/** Owes again, or gives up, what a vanished process had leased; leaves rows that someone has locked. Returns how many. */
export async function reclaimExpiredLeases(db: Db, maxCrashes: number): Promise<number> {
  // work_running.
  const { rowCount } = await db.execute(
    sql`WITH expired AS (
          SELECT id FROM website_worker.work WHERE state = 'running' AND lease_until < now()
          ORDER BY id FOR UPDATE SKIP LOCKED)
        UPDATE website_worker.work w
        SET crashes = w.crashes + 1, generation = w.generation + 1, rung_at = NULL, lease_token = NULL, lease_until = NULL,
            state = CASE WHEN w.crashes + 1 >= ${maxCrashes} THEN 'failed' ELSE 'owed' END,
            reason = CASE WHEN w.crashes + 1 >= ${maxCrashes} THEN 'crashed' END,
            finished_at = CASE WHEN w.crashes + 1 >= ${maxCrashes} THEN now() END,
            last_error = 'the process ended during this run'
        FROM expired e WHERE w.id = e.id`,
  )
  return rowCount ?? 0
}

/**
 * Ends runs, many in one statement. A run without a lease may finish its item as done even after a re-arm (the effect
 * happened); any other end counts only if no other run ended in between. An item that was put on hold meanwhile stays so.
 * @returns the ids of the items that the runs ended.
 */
export async function finish(tx: Db | Tx, runs: readonly Finish[]): Promise<Set<number>> {
  const rows = runs.toSorted((a, b) => a.workId - b.workId)
  const column = <T>(pick: (run: Finish) => T, type: string) => sql`${sql.param(rows.map(pick))}::${sql.raw(type)}[]`
  const again = sql`r.outcome IN ('retry', 'parked', 'postponed')`
  const staysHeld = sql`(w.state = 'held' AND ${again})`
  // Primary key, row by row in id order; where two such statements meet otherwise, the loser of the deadlock tries again.
  const { rows: changed } = await tx.execute(
    sql`UPDATE website_worker.work w
        SET state = CASE WHEN ${staysHeld} THEN 'held' WHEN ${again} THEN 'owed' ELSE r.outcome END,
            reason = CASE WHEN ${staysHeld} THEN w.reason ELSE r.reason END,
            attempts = w.attempts + (r.outcome NOT IN ('held', 'parked', 'postponed'))::int,
            crashes = 0,
            generation = w.generation + (${again})::int,
            next_at = CASE WHEN r.outcome IN ('retry', 'postponed') THEN now() + r.wait_ms * interval '1 ms' ELSE w.next_at END,
            rung_at = CASE WHEN r.outcome IN ('done', 'failed') THEN w.rung_at END,
            lane = r.lane,
            trigger = CASE WHEN r.outcome = 'retry' AND w.trigger NOT IN ('retry', 'replay') THEN 'schedule' ELSE w.trigger END,
            last_error = CASE WHEN r.outcome = 'done' THEN NULL ELSE coalesce(r.error, w.last_error) END,
            result = r.result::jsonb,
            lease_until = NULL, lease_token = NULL,
            finished_at = CASE WHEN r.outcome IN ('done', 'failed') THEN now() END
        FROM unnest(${column((r) => r.workId, 'bigint')}, ${column((r) => r.attemptsBefore, 'int')},
                    ${column((r) => r.leaseToken, 'uuid')}, ${column((r) => r.outcome, 'text')},
                    ${column((r) => r.waitMs, 'float8')}, ${column((r) => r.lane, 'text')},
                    ${column((r) => r.error, 'text')}, ${column((r) => r.reason, 'text')},
                    ${column((r) => r.result, 'text')})
             AS r(id, attempts_before, token, outcome, wait_ms, lane, error, reason, result)
        WHERE w.id = r.id AND CASE
          WHEN r.token IS NOT NULL THEN w.state = 'running' AND w.lease_token = r.token
          WHEN r.outcome = 'done' THEN w.state IN ('owed', 'held')
          ELSE w.state IN ('owed', 'held') AND w.attempts = r.attempts_before END
        RETURNING w.id`,
  )
  return new Set(changed.map((row) => Number(row.id)))
}
