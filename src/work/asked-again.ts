import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { pgErrorOf } from '../db/queries/pg-error.ts'

/** How many asks, and how many items, one call looks after. */
const mostAsks = 10_000
const mostItems = 1_000
/** How long one call tries items that others stand in the way of. */
const patienceMs = 1_000

/** Each ask `a` with its item `w` and, as `u`, the unfinished item of the same key, which may be another one by now. */
// Primary key of work, then work_unfinished_key; laterally, whatever the planner thinks of the size of asked_again.
const asks = sql`website_worker.asked_again a
  LEFT JOIN LATERAL (SELECT id, job, key FROM website_worker.work WHERE id = a.work_id LIMIT 1) w ON true
  LEFT JOIN LATERAL (SELECT state, rung_at FROM website_worker.work
                     WHERE job = w.job AND key = w.key AND state IN ('owed', 'running', 'held') LIMIT 1) u ON true`

/** Takes for answered what was asked before these runs begin, since they will see whatever the asker changed. */
export async function answerAsks(db: Db, rings: readonly { workId: number; generation: number }[]): Promise<void> {
  const workIds = sql.param(rings.map((ring) => ring.workId))
  const generations = sql.param(rings.map((ring) => ring.generation))
  // Primary key of work, then asked_again_work.
  await db.execute(
    sql`DELETE FROM website_worker.asked_again a
        USING unnest(${workIds}::bigint[], ${generations}::int[]) AS r(id, generation)
        JOIN website_worker.work w ON w.id = r.id AND w.generation = r.generation AND w.state = 'owed'
        WHERE a.work_id = r.id`,
  )
}

/** Drops the asks whose item is gone or has its run ahead of it for certain, and all but one of each item's. */
async function forgetAnswered(db: Db): Promise<void> {
  // asked_again_work for the later ask.
  await db.execute(
    sql`DELETE FROM website_worker.asked_again WHERE id IN (
          SELECT a.id FROM ${asks}
          WHERE w.id IS NULL OR u.state = 'held' OR (u.state = 'owed' AND u.rung_at IS NULL)
            OR EXISTS (SELECT FROM website_worker.asked_again l WHERE l.work_id = a.work_id AND l.id > a.id)
          LIMIT ${mostAsks})`,
  )
}

async function endedItems(db: Db): Promise<number[]> {
  const { rows } = await db.execute(
    sql`SELECT DISTINCT w.id FROM ${asks} WHERE w.id IS NOT NULL AND u.state IS NULL LIMIT ${mostItems}`,
  )
  return rows.map((row) => Number(row.id))
}

/** Owes ended items from their first attempt, and takes their asks for answered. Returns how many. */
async function owe(db: Db, workIds: readonly number[]): Promise<number> {
  // Primary key; work_unfinished_key for the twin, row by row whatever the planner thinks; asked_again_work.
  const { rowCount } = await db.execute(
    sql`WITH ended AS (
          SELECT w.id FROM website_worker.work w
          WHERE w.id = ANY (${sql.param(workIds)}::bigint[]) AND w.state IN ('done', 'failed', 'cancelled')
            AND (SELECT o.id FROM website_worker.work o
                 WHERE o.job = w.job AND o.key = w.key AND o.state IN ('owed', 'running', 'held') LIMIT 1) IS NULL
          ORDER BY w.id FOR UPDATE SKIP LOCKED),
        answered AS (DELETE FROM website_worker.asked_again a USING ended e WHERE a.work_id = e.id)
        UPDATE website_worker.work w
        SET state = 'owed', reason = NULL, generation = w.generation + 1, attempts = 0, crashes = 0, trigger = 'request',
            next_at = now(), rung_at = NULL, lane = NULL, lease_until = NULL, lease_token = NULL, result = NULL, finished_at = NULL
        FROM ended e WHERE w.id = e.id`,
  )
  return rowCount ?? 0
}

/** Whether it failed because someone is making an item of the same key, committed by now or not. */
const stoodInTheWay = (error: unknown) => ['55P03', '23505'].includes(pgErrorOf(error)?.code ?? '')

/**
 * Owes once more what was asked for when it was owed already and may have run without seeing what the asker changed,
 * also when the asker commits after the run's end. Returns how many.
 */
export async function oweAskedAgain(db: Db): Promise<number> {
  await forgetAnswered(db)
  const ended = await endedItems(db)
  if (ended.length === 0) return 0
  try {
    return await owe(db, ended)
  } catch (error) {
    if (!stoodInTheWay(error)) throw error
  }
  // One by one, in another order each time, so that those in the way of some don't keep the others for ever.
  const began = Date.now()
  let owed = 0
  for (const id of ended.toSorted(() => Math.random() - 0.5)) {
    if (Date.now() - began > patienceMs) break
    try {
      owed += await owe(db, [id])
    } catch (error) {
      if (!stoodInTheWay(error)) throw error
    }
  }
  return owed
}
