import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'

export interface OriginLimits {
  /** Calls in flight, over all processes. */
  maxConcurrent: number
  requestsPerSecond: number
}

/** A place that was taken, or how long there is none. */
export type Place =
  | { kind: 'taken'; place: number }
  /**
   * `open`: the breaker is, for `ms`; `asked`: the ERP wants to be left alone for `ms`; `paced`: the next call may begin in
   * `ms`; `busy`: all places are taken.
   */
  | { kind: 'none'; why: 'open' | 'asked' | 'paced' | 'busy'; ms: number }

/** Calls that may follow each other at once, before the pace holds. */
const burst = 4
/** Failures in a row that open the breaker. */
const breaksAt = 8
/** The breaker stays open 5 s the first time, twice as long each time after, and 10 minutes at most. */
const firstOpenSeconds = 5
const longestOpenSeconds = 600
const mostDoublings = 10
/** A longer wait that an ERP asks for is taken for a mistake. */
const longestAskedMs = 3_600_000

/**
 * Takes a place for one call to an ERP, for `leaseMs` at most: one of `maxConcurrent`, in its pace, none while it is left
 * alone; one alone after the breaker was open, until that is answered. No two calls ever have the same place.
 */
export async function takePlace(
  db: Db,
  origin: string,
  { maxConcurrent, requestsPerSecond }: OriginLimits,
  { token, leaseMs }: { token: string; leaseMs: number },
): Promise<Place> {
  const everyMs = 1_000 / requestsPerSecond
  const slackMs = everyMs * (Math.min(burst, maxConcurrent) - 1)
  const ms = (value: number) => sql`${value}::float8 * interval '1 ms'`
  const most = sql`CASE WHEN o.opens > 0 THEN 1 ELSE ${maxConcurrent}::int END`
  // Primary keys of both. Who waited here for another process sees its pace, but not its place, which the key guards.
  const { rows } = await db.execute(
    sql`WITH paced AS (
          UPDATE website_worker.erp_origins o
          SET paced_until = greatest(o.paced_until, now() - ${ms(slackMs)}) + ${ms(everyMs)}, changed_at = now()
          WHERE o.origin = ${origin} AND (o.open_until IS NULL OR o.open_until <= now())
            AND (o.paced_until IS NULL OR o.paced_until <= now())
            AND (SELECT count(*) FROM website_worker.erp_calls c WHERE c.origin = o.origin AND c.until > now()) < ${most}
          RETURNING o.opens),
        free AS (
          SELECT g.place FROM paced o CROSS JOIN LATERAL generate_series(1, ${most}) AS g(place)
          WHERE NOT EXISTS (
            SELECT FROM website_worker.erp_calls c
            WHERE c.origin = ${origin} AND c.place = g.place AND c.until > now())
          ORDER BY random() LIMIT 1),
        taken AS (
          INSERT INTO website_worker.erp_calls AS c (origin, place, token, until)
          SELECT ${origin}, place, ${token}::uuid, now() + ${ms(leaseMs)} FROM free
          ON CONFLICT (origin, place) DO UPDATE SET token = excluded.token, until = excluded.until
          WHERE c.until <= now()
          RETURNING c.place)
        SELECT (SELECT place FROM taken) AS place, o.opens > 0 AS "isBroken",
          extract(epoch FROM o.open_until - now())::float8 * 1000 AS "openMs",
          extract(epoch FROM o.paced_until - now())::float8 * 1000 AS "pacedMs"
        FROM website_worker.erp_origins o WHERE o.origin = ${origin}`,
  )
  const [row] = rows as { place: number | null; isBroken: boolean; openMs: number | null; pacedMs: number | null }[]
  if (!row) {
    // Primary key.
    await db.execute(sql`INSERT INTO website_worker.erp_origins (origin) VALUES (${origin}) ON CONFLICT DO NOTHING`)
    return takePlace(db, origin, { maxConcurrent, requestsPerSecond }, { token, leaseMs })
  }
  if (row.place !== null) return { kind: 'taken', place: row.place }
  const openMs = row.openMs ?? 0
  if (openMs > 0) return { kind: 'none', why: row.isBroken ? 'open' : 'asked', ms: openMs }
  const pacedMs = row.pacedMs ?? 0
  return pacedMs > 0 ? { kind: 'none', why: 'paced', ms: pacedMs } : { kind: 'none', why: 'busy', ms: 0 }
}

/** How a call went. */
export interface CallOutcome {
  /** `unknown` says nothing about the ERP. */
  kind: 'answered' | 'failed' | 'unknown'
  /** How long it asked to be left alone. Default: it didn't. */
  askedMs?: number
}

/** Gives a place back, and keeps what the call says about its ERP: an answer closes the breaker, failures in a row open it. */
export async function leavePlace(
  db: Db,
  origin: string,
  { place, token }: { place: number; token: string },
  { kind, askedMs = 0 }: CallOutcome,
): Promise<void> {
  const failed = sql`${kind === 'failed'}::bool`
  const askedFor = sql`${Math.min(askedMs, longestAskedMs)}::float8`
  const opensNow = sql`(${failed} AND (o.opens > 0 OR o.failures + 1 >= ${breaksAt}::int)
    AND (o.opens = 0 OR o.open_until IS NULL OR o.open_until <= now()))`
  const openSeconds = sql`least(${longestOpenSeconds}::float8,
    ${firstOpenSeconds}::float8 * 2 ^ least(o.opens, ${mostDoublings}::int))`
  // Primary keys of both. An ERP that just answers is not written. What was asked for outlasts answers to earlier calls.
  await db.execute(
    sql`WITH given AS (
          UPDATE website_worker.erp_calls SET until = '-infinity'
          WHERE origin = ${origin} AND place = ${place} AND token = ${token}::uuid)
        UPDATE website_worker.erp_origins o SET
          failures = CASE WHEN ${failed} THEN o.failures + 1 ELSE 0 END,
          opens = CASE WHEN ${opensNow} THEN o.opens + 1 WHEN ${failed} THEN o.opens ELSE 0 END,
          open_until = greatest(
            CASE WHEN ${opensNow} THEN now() + ${openSeconds} * interval '1 s'
                 WHEN ${failed} OR o.opens = 0 THEN o.open_until END,
            CASE WHEN ${askedFor} > 0 THEN now() + ${askedFor} * interval '1 ms' END),
          changed_at = now()
        WHERE o.origin = ${origin} AND ${kind !== 'unknown'}::bool
          AND (${failed} OR ${askedFor} > 0 OR o.failures > 0 OR o.opens > 0)`,
  )
}
