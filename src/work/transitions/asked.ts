import { sql, type SQL } from 'drizzle-orm'
import type { Db, Tx } from '../../db/client.ts'
import { pgErrorOf } from '../../db/queries/pg-error.ts'

/** A work item that can be rung: what the bell needs to know of it. */
export interface Ring {
  workId: number
  job: string
  generation: number
  label: string
  attempts: number
  /** How long until it is due by Postgres's clock, ms; 0 when due. */
  delayMs: number
}

const unfinished = sql`('owed', 'running', 'held')`

/** How long until `w` is due, by the clock that set its time. */
export const delayMs = sql`ceil(greatest(0, extract(epoch FROM w.next_at - now()) * 1000))::float8 AS "delayMs"`

const ringColumns = sql`w.id AS "workId", w.job, w.generation, w.label, w.attempts, ${delayMs}`

const ids = (values: readonly number[]) => sql`${sql.param(values)}::bigint[]`

/** Changes the items that are in one of some states; locked in id order, so that no two batches deadlock. */
async function change(db: Db | Tx, workIds: readonly number[], states: SQL, set: SQL): Promise<Ring[]> {
  // Primary key.
  return rings(
    db,
    sql`WITH locked AS MATERIALIZED (
          SELECT id FROM website_worker.work WHERE id = ANY (${ids(workIds)}) AND state IN ${states} ORDER BY id FOR UPDATE)
        UPDATE website_worker.work w SET ${set} WHERE w.id = ANY (ARRAY(SELECT id FROM locked))
        RETURNING ${ringColumns}`,
  )
}

async function rings(db: Db | Tx, statement: SQL): Promise<Ring[]> {
  const { rows } = await db.execute(statement)
  return rows.map((row) => ({
    workId: Number(row.workId),
    job: row.job as string,
    generation: row.generation as number,
    label: row.label as string,
    attempts: row.attempts as number,
    delayMs: row.delayMs as number,
  }))
}

/**
 * Owes finished or held items again from their first attempt, at once; attempts already made stay in the ledger.
 * Items whose key has another unfinished item are left alone; of several with one key the newest goes.
 */
export async function retry(db: Db, workIds: readonly number[], trigger: 'retry' | 'replay'): Promise<Ring[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await retryOnce(db, workIds, trigger)
    } catch (error) {
      // Someone else's insert of a key was committed after this statement began; the next one sees it.
      if (pgErrorOf(error)?.code !== '23505') throw error
      if (attempt === 3) return []
    }
  }
}

function retryOnce(db: Db, workIds: readonly number[], trigger: 'retry' | 'replay'): Promise<Ring[]> {
  // Primary key; work_unfinished_key for the twin.
  return rings(
    db,
    sql`WITH locked AS MATERIALIZED (
          SELECT id, job, key, state FROM website_worker.work
          WHERE id = ANY (${ids(workIds)}) AND state IN ('failed', 'cancelled', 'done', 'held') ORDER BY id FOR UPDATE),
        chosen AS (
          SELECT DISTINCT ON (job, key) id FROM locked ORDER BY job, key, state = 'held' DESC, id DESC)
        UPDATE website_worker.work w
        SET state = 'owed', reason = NULL, generation = generation + 1, attempts = 0, crashes = 0, trigger = ${trigger},
            next_at = now(), rung_at = NULL, lane = NULL, lease_until = NULL, lease_token = NULL, result = NULL, finished_at = NULL
        WHERE w.id = ANY (ARRAY(SELECT id FROM chosen))
          AND NOT EXISTS (SELECT FROM website_worker.work o
                          WHERE o.job = w.job AND o.key = w.key AND o.id <> w.id AND o.state IN ${unfinished})
        RETURNING ${ringColumns}`,
  )
}

/** Owes a waiting item now instead of later. */
export function promote(db: Db | Tx, workIds: readonly number[]): Promise<Ring[]> {
  const set = sql`generation = generation + 1, next_at = now(), rung_at = NULL, lane = NULL, trigger = 'retry'`
  return change(db, workIds, sql`('owed')`, set)
}

/**
 * The payload of an item that is cancelled: that of a page says when the page is scheduled for by now, also where its row
 * was changed since, because it is for that time that discovery must not owe it again.
 */
const cancelledPayload = sql`CASE WHEN w.job = 'publish-page' THEN w.payload || coalesce((
  SELECT jsonb_build_object('publishAt', website_worker.instant_text(p.publish_at AT TIME ZONE 'UTC'))
  FROM public.website_pages p
  WHERE p.id = CASE WHEN w.key ~ '^[0-9]{1,10}$' THEN w.key::bigint END AND p.status = 'scheduled'
    AND p.publish_at IS NOT NULL), '{}') ELSE w.payload END`

/** Ends unfinished items for good; a run under way may still complete its effect, but not the item. */
export async function cancel(db: Db | Tx, workIds: readonly number[], reason: string): Promise<Ring[]> {
  const set = sql`state = 'cancelled', reason = ${reason}, generation = generation + 1, rung_at = NULL,
    lease_until = NULL, lease_token = NULL, finished_at = now(), payload = ${cancelledPayload}`
  // asked_again_work, website_pages_pkey. What was asked so far is cancelled with it.
  await db.execute(sql`DELETE FROM website_worker.asked_again WHERE work_id = ANY (${ids(workIds)})`)
  return change(db, workIds, unfinished, set)
}

/** Gives up items that can never run, with words for a person. */
export function giveUp(db: Db | Tx, workIds: readonly number[], error: string): Promise<Ring[]> {
  const set = sql`state = 'failed', reason = 'given up', last_error = ${error}, generation = generation + 1,
    rung_at = NULL, finished_at = now()`
  return change(db, workIds, sql`('owed')`, set)
}
