import { sql } from 'drizzle-orm'
import type { Logger } from 'pino'
import { transact, type Db, type Tx } from '../db/client.ts'
import { openLanes } from '../db/queries/lanes.ts'
import { messageOf } from '../errors.ts'
import type { Bell } from './bell.ts'
import { horizonMs, mostPerLane } from './ring-due.ts'
import { unmarkRung, type Ring } from './transitions.ts'

/** Items that wait for their turn in a lane, as the partial index work_parked has them. */
const parked = sql`w.state = 'owed' AND w.rung_at IS NULL AND w.lane IS NOT NULL`

/** How far ahead of its time an item of a lane with a limited rate is rung, s. */
const paceAheadSeconds = 2

/** Lanes whose rows are locked together. */
const lanesAtOnce = 200

/** What holds for lane `l`: the limit a person set for it, or for all. */
const limits = sql`
  LEFT JOIN LATERAL (
    SELECT m.max_concurrent, m.requests_per_second FROM website_worker.lane_limits m
    WHERE m.lane IN (l.lane, '*') ORDER BY m.lane = '*' LIMIT 1) m ON true`

export interface LaneDeps {
  db: Db
  bell: Bell
  log: Logger
}

/** Marks what has its turn in some lanes as rung, and tells what to ring. */
async function takeTurns(tx: Tx, lanes: readonly string[]): Promise<Ring[]> {
  // lanes_pkey. A statement of its own: the next one sees all that was rung by whoever held these rows before, so that
  // two processes don't fill the same room.
  const { rows: locked } = await tx.execute(
    sql`SELECT l.lane FROM website_worker.lanes l WHERE l.lane = ANY (${sql.param(lanes)}::text[])
        ORDER BY l.lane FOR UPDATE SKIP LOCKED`,
  )
  if (locked.length === 0) return []
  // lanes_pkey and lane_limits_pkey; work_lane_rung for what is in the queue, work_parked for what is next, then primary
  // keys. A lane that is
  // paced further ahead than its rate asks for had a lower one.
  const { rows } = await tx.execute(
    sql`WITH lanes AS MATERIALIZED (
          SELECT l.lane, m.requests_per_second AS rate,
            CASE WHEN l.paced_until <= now() + (${paceAheadSeconds} + 1 / m.requests_per_second) * interval '1 s'
                 THEN greatest(l.paced_until, now()) ELSE now() END AS paced_until,
            CASE WHEN l.open_until > now() THEN 0 WHEN l.opens > 0 THEN 1
                 ELSE least(l."window", coalesce(m.max_concurrent, l."window")) END AS allowed
          FROM website_worker.lanes l ${limits}
          WHERE l.lane = ANY (${sql.param(locked.map((row) => row.lane))}::text[])),
        room AS MATERIALIZED (
          SELECT l.*, least(
            l.allowed - (SELECT count(*) FROM (
              SELECT FROM website_worker.work w
              WHERE w.lane = l.lane AND w.state = 'owed' AND w.rung_at IS NOT NULL LIMIT l.allowed) rung),
            CASE WHEN l.rate IS NOT NULL
              THEN ceil(l.rate * (${paceAheadSeconds} - extract(epoch FROM l.paced_until - now()))) END)::int AS room
          FROM lanes l WHERE l.allowed > 0),
        picked AS MATERIALIZED (
          SELECT r.lane, r.rate, r.paced_until, n.id FROM room r CROSS JOIN LATERAL (
            SELECT w.id FROM website_worker.work w
            WHERE ${parked} AND w.lane = r.lane AND w.next_at <= now()
            ORDER BY w.next_at, w.id LIMIT greatest(0, r.room)) n),
        locked AS MATERIALIZED (
          SELECT w.id, w.next_at FROM website_worker.work w
          WHERE w.id = ANY (ARRAY(SELECT id FROM picked)) AND ${parked} ORDER BY w.id FOR UPDATE SKIP LOCKED),
        turns AS MATERIALIZED (
          SELECT p.*, row_number() OVER (PARTITION BY p.lane ORDER BY k.next_at, k.id) AS n
          FROM picked p JOIN locked k USING (id)),
        paced AS (
          UPDATE website_worker.lanes l SET paced_until = t.paced_until + t.n / t.rate * interval '1 s'
          FROM (SELECT DISTINCT ON (lane) * FROM turns WHERE rate IS NOT NULL ORDER BY lane, n DESC) t
          WHERE l.lane = t.lane),
        rung AS (
          UPDATE website_worker.work w SET rung_at = now() WHERE w.id = ANY (ARRAY(SELECT id FROM turns))
          RETURNING w.id, w.job, w.generation, w.label, w.attempts)
        SELECT r.*, coalesce(ceil(extract(epoch FROM t.paced_until - now()) * 1000 + (t.n - 1) / t.rate * 1000), 0)::float8
                      AS "delayMs"
        FROM rung r JOIN turns t USING (id) ORDER BY t.n, r.id`,
  )
  return rows.map((row) => ({ ...(row as unknown as Ring), workId: Number(row.id) }))
}

/** Rings what has its turn in some lanes. Returns how many. */
async function ringTurns({ db, bell, log }: LaneDeps, lanes: readonly string[]): Promise<number> {
  const turns = await transact(db, (tx) => takeTurns(tx, lanes))
  const byJob = new Map<string, Ring[]>()
  for (const ring of turns) {
    const together = byJob.get(ring.job)
    if (together) together.push(ring)
    else byJob.set(ring.job, [ring])
  }
  for (const [job, rings] of byJob) {
    try {
      await bell.ringNow(job, rings)
    } catch (error) {
      log.warn({ job, rings: rings.length, err: messageOf(error) }, 'could not ring; the next tick will')
      await unmarkRung(db, rings)
    }
  }
  return turns.length
}

/** Every lane in which something waits. */
async function parkedLanes(db: Db): Promise<string[]> {
  // One probe of work_parked each.
  const { rows } = await db.execute(
    sql`WITH RECURSIVE found AS (
          (SELECT w.lane FROM website_worker.work w WHERE ${parked} ORDER BY w.lane LIMIT 1)
          UNION ALL
          SELECT (SELECT w.lane FROM website_worker.work w WHERE ${parked} AND w.lane > f.lane ORDER BY w.lane LIMIT 1)
          FROM found f WHERE f.lane IS NOT NULL)
        SELECT lane FROM found WHERE lane IS NOT NULL`,
  )
  return rows.map((row) => row.lane as string)
}

/** A lane whose window has come to this since items last found no place keeps up with what is owed to it. */
const wideWindow = 32

/**
 * Frees lanes that keep up, and those in which nothing is due, so that their next items are rung at once. One that would
 * come to be a lane again, since much is due soon, stays.
 */
async function freeLanes(db: Db): Promise<void> {
  // lanes_pkey; work_parked and work_lane_rung, a few rows each.
  const { rows } = await db.execute(
    sql`SELECT l.lane FROM website_worker.lanes l ${limits}
        WHERE m.max_concurrent IS NULL AND m.requests_per_second IS NULL
          AND (l.opens = 0 AND l."window" >= ${wideWindow}
            OR l.changed_at < now() - CASE WHEN l.opens = 0 THEN interval '2 s' ELSE interval '1 hour' END
              AND NOT EXISTS (SELECT FROM website_worker.work w WHERE ${parked} AND w.lane = l.lane AND w.next_at <= now())
              AND NOT EXISTS (SELECT FROM website_worker.work w
                              WHERE w.lane = l.lane AND w.state = 'owed' AND w.rung_at IS NOT NULL))
          AND NOT EXISTS (SELECT FROM website_worker.work w
                          WHERE ${parked} AND w.lane = l.lane AND w.next_at <= now() + ${horizonMs} * interval '1 ms'
                          OFFSET ${mostPerLane})
        LIMIT 1000`,
  )
  const lanes = sql.param(rows.map((row) => row.lane))
  if (rows.length === 0) return
  // work_parked, then the primary key: what is left there doesn't have to wait for a turn any more. What comes to be
  // parked meanwhile makes its lane anew.
  await db.execute(
    sql`UPDATE website_worker.work w SET lane = NULL WHERE w.id = ANY (ARRAY(
          SELECT w.id FROM website_worker.work w WHERE ${parked} AND w.lane = ANY (${lanes}::text[])
          LIMIT 10000 FOR UPDATE SKIP LOCKED))`,
  )
  // lanes_pkey; work_parked, one probe each. The rest of a long one is freed by the next ticks.
  await db.execute(
    sql`DELETE FROM website_worker.lanes l WHERE l.lane = ANY (${lanes}::text[])
          AND NOT EXISTS (SELECT FROM website_worker.work w WHERE ${parked} AND w.lane = l.lane)`,
  )
}

/** Rings in every lane what has its turn; for the dispatcher, once a tick. Returns how many. */
export async function ringLanes({ db, bell, log }: LaneDeps): Promise<number> {
  const lanes = await parkedLanes(db)
  let count = 0
  for (let from = 0; from < lanes.length; from += lanesAtOnce) {
    const some = lanes.slice(from, from + lanesAtOnce)
    // One whose row was freed while something was parked in it has a row again.
    await openLanes(db, some)
    if (bell.ready()) count += await ringTurns({ db, bell, log }, some)
  }
  await freeLanes(db)
  return count
}

/** Rings what is next in a lane when something of it has ended, without anyone waiting. */
export interface LanePuller {
  pull(lane: string): void
  /** Resolves when nothing is being pulled. */
  settled(): Promise<void>
}

/** @see LanePuller */
export function createLanePuller(deps: LaneDeps): LanePuller {
  let wanted = new Set<string>()
  let pulling: Promise<void> | undefined

  async function pullWanted(): Promise<void> {
    // What ends in the same moment makes room together.
    await new Promise((resolve) => setImmediate(resolve))
    while (wanted.size > 0 && deps.bell.ready()) {
      const lanes = [...wanted]
      wanted = new Set()
      try {
        await ringTurns(deps, lanes)
      } catch (error) {
        deps.log.warn({ err: messageOf(error) }, 'could not ring what is next in a lane; the next tick will')
      }
    }
    pulling = undefined
  }

  return {
    pull(lane) {
      wanted.add(lane)
      pulling ??= pullWanted()
    },
    async settled() {
      for (let last = pulling; last; last = pulling) await last
    },
  }
}
