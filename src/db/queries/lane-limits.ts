import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'

/** What a person set for an origin, or for all (`*`). */
export interface LaneLimits {
  /** Requests at a time, over all processes; null: as many as it takes. */
  maxConcurrent: number | null
  /** Null: unlimited. */
  requestsPerSecond: number | null
}

/** An origin with its limits and how it fares. */
export interface LaneState {
  origin: string
  /** Null: what is set for `*` holds, if anything is. */
  limits: LaneLimits | null
  /** `open`: nothing is sent until `openUntil`. `probing`: one request at a time, until one is answered. */
  breaker: 'closed' | 'open' | 'probing'
  openUntil: Date | null
  /** Deliveries that may be in the queue at a time; null while nothing has to wait. */
  window: number | null
  /** Deliveries that wait for their turn; counted up to 100,000. */
  parked: number
  inQueue: number
}

const mostCounted = 100_000

/** What the API and the command line show of lane `n`: its primary keys, and work_parked and work_lane_rung counted. */
const state = sql`
  n.lane AS origin, m.lane IS NOT NULL AS "hasLimits", m.max_concurrent AS "maxConcurrent",
  m.requests_per_second AS "requestsPerSecond",
  CASE WHEN l.open_until > now() THEN 'open' WHEN l.opens > 0 THEN 'probing' ELSE 'closed' END AS breaker,
  CASE WHEN l.open_until > now() THEN l.open_until END AS "openUntil", l."window",
  (SELECT count(*) FROM (
     SELECT FROM website_worker.work w
     WHERE w.lane = n.lane AND w.state = 'owed' AND w.rung_at IS NULL LIMIT ${mostCounted}) p)::int AS parked,
  (SELECT count(*) FROM (
     SELECT FROM website_worker.work w
     WHERE w.lane = n.lane AND w.state = 'owed' AND w.rung_at IS NOT NULL LIMIT ${mostCounted}) q)::int AS "inQueue"`

// Laterally with a limit, so that no plan reads all of them.
const itsRows = sql`
  LEFT JOIN LATERAL (SELECT * FROM website_worker.lanes l WHERE l.lane = n.lane LIMIT 1) l ON true
  LEFT JOIN LATERAL (SELECT * FROM website_worker.lane_limits m WHERE m.lane = n.lane LIMIT 1) m ON true`

function readState(row: Record<string, unknown>): LaneState {
  const { hasLimits, maxConcurrent, requestsPerSecond, openUntil, ...rest } = row as unknown as LaneState &
    LaneLimits & { hasLimits: boolean; openUntil: string | null }
  return {
    ...rest,
    limits: hasLimits ? { maxConcurrent, requestsPerSecond } : null,
    openUntil: openUntil === null ? null : new Date(openUntil),
  }
}

/** Origins that have limits or a lane now, by name, from behind `after`. */
export async function listLanes(db: Db, after: string, limit: number): Promise<LaneState[]> {
  // Primary keys of lanes and lane_limits, in their order; then each lane's indexes. The limits within keep either table
  // from being read whole.
  const { rows } = await db.execute(
    sql`WITH n AS MATERIALIZED (
          SELECT lane FROM (
            (SELECT lane FROM website_worker.lanes WHERE lane > ${after} ORDER BY lane LIMIT ${limit})
            UNION
            (SELECT lane FROM website_worker.lane_limits WHERE lane > ${after} ORDER BY lane LIMIT ${limit})) known
          ORDER BY lane LIMIT ${limit})
        SELECT ${state} FROM n ${itsRows} ORDER BY n.lane`,
  )
  return rows.map(readState)
}

/** An origin, also one of which nothing is known. */
export async function findLane(db: Db, lane: string): Promise<LaneState> {
  // Primary keys of lanes and lane_limits; the lane's indexes.
  const { rows } = await db.execute(sql`SELECT ${state} FROM (SELECT ${lane}::text AS lane) n ${itsRows}`)
  return readState(rows[0]!)
}

/** Whether this is a lane, or has limits. */
export async function isKnownLane(db: Db, lane: string): Promise<boolean> {
  // Primary keys of both.
  const { rows } = await db.execute(
    sql`SELECT FROM website_worker.lanes WHERE lane = ${lane}
        UNION ALL SELECT FROM website_worker.lane_limits WHERE lane = ${lane}`,
  )
  return rows.length > 0
}

/** Sets the limits of an origin, in place of those it had. Processes obey them within about a second. */
export async function setLaneLimits(db: Db, lane: string, limits: LaneLimits): Promise<void> {
  // Primary key.
  await db.execute(
    sql`INSERT INTO website_worker.lane_limits (lane, max_concurrent, requests_per_second)
        VALUES (${lane}, ${limits.maxConcurrent}, ${limits.requestsPerSecond})
        ON CONFLICT (lane) DO UPDATE SET max_concurrent = excluded.max_concurrent,
          requests_per_second = excluded.requests_per_second, changed_at = now()`,
  )
}

/** Goes back to what holds for all. Returns whether there was a limit. */
export async function removeLaneLimits(db: Db, lane: string): Promise<boolean> {
  // Primary key.
  const { rowCount } = await db.execute(sql`DELETE FROM website_worker.lane_limits WHERE lane = ${lane}`)
  return (rowCount ?? 0) > 0
}
