import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'

/** What some runs told about a lane. */
export interface LaneNews {
  lane: string
  /** Requests that were answered. */
  answered: number
  /** Requests that failed. */
  failed: number
  /** Items that found no place. */
  parked: number
  /** The last straw: nothing is sent for a while. */
  isBroken: boolean
}

/** Adds up what many runs told, by lane. */
export function foldNews(news: readonly LaneNews[]): LaneNews[] {
  const byLane = new Map<string, LaneNews>()
  for (const { lane, answered, failed, parked, isBroken } of news) {
    const sum = byLane.get(lane) ?? { lane, answered: 0, failed: 0, parked: 0, isBroken: false }
    byLane.set(lane, {
      lane,
      answered: sum.answered + answered,
      failed: sum.failed + failed,
      parked: sum.parked + parked,
      isBroken: sum.isBroken || isBroken,
    })
  }
  return [...byLane.values()].toSorted((a, b) => (a.lane < b.lane ? -1 : 1))
}

/** Items of a lane that may be in the queue at a time: at first, and at best. */
const firstWindow = 8
const widestWindow = 512
/** The breaker stays open 1 s the first time, twice as long each time after, and a minute at most. */
const mostDoublings = 6

/** How lanes stand: whether items wait for their turn there, and whether nothing is to be sent now. */
export async function readLanes(
  db: Db,
  lanes: readonly string[],
): Promise<Map<string, { isManaged: boolean; isOpen: boolean }>> {
  // lanes_pkey and lane_limits_pkey.
  const { rows } = await db.execute(
    sql`SELECT r.lane, website_worker.is_managed(r.lane) AS "isManaged", coalesce(l.open_until > now(), false) AS "isOpen"
        FROM unnest(${sql.param(lanes)}::text[]) AS r(lane) LEFT JOIN website_worker.lanes l ON l.lane = r.lane`,
  )
  return new Map(rows.map(({ lane, ...row }) => [lane as string, row as { isManaged: boolean; isOpen: boolean }]))
}

/** Makes lanes, where they aren't there yet. */
export async function openLanes(tx: Db | Tx, lanes: readonly string[]): Promise<void> {
  // Primary key; in lane order, like every statement on many lanes.
  await tx.execute(
    sql`INSERT INTO website_worker.lanes (lane, "window") SELECT lane, ${firstWindow}
        FROM unnest(${sql.param(lanes)}::text[]) AS r(lane) ORDER BY lane ON CONFLICT DO NOTHING`,
  )
}

/**
 * Notes how lanes fare: each answer widens a lane's window by one, items that found no place halve it. A lane that broke,
 * or whose probe failed, is open for a while; an answer closes it. Lanes nobody has to wait in aren't noted.
 */
export async function recordLanes(tx: Db | Tx, news: readonly LaneNews[]): Promise<void> {
  const column = <T>(pick: (each: LaneNews) => T, type: string) => sql`${sql.param(news.map(pick))}::${sql.raw(type)}[]`
  const made = news.filter((each) => each.parked > 0 || each.isBroken).map((each) => each.lane)
  if (made.length > 0) await openLanes(tx, made)
  // Primary key.
  await tx.execute(
    sql`WITH r AS MATERIALIZED (
          SELECT * FROM unnest(${column((e) => e.lane, 'text')}, ${column((e) => e.answered, 'int')},
            ${column((e) => e.failed, 'int')}, ${column((e) => e.parked, 'int')}, ${column((e) => e.isBroken, 'bool')})
            AS r(lane, answered, failed, parked, is_broken)),
        locked AS MATERIALIZED (
          SELECT l.lane, l.opens, l.open_until IS NULL OR l.open_until <= now() AS may_open FROM website_worker.lanes l
          WHERE l.lane IN (SELECT lane FROM r) ORDER BY l.lane FOR UPDATE),
        judged AS (
          SELECT r.*, k.may_open AND r.answered = 0 AND (r.is_broken OR r.failed > 0 AND k.opens > 0) AS opens_now
          FROM r JOIN locked k USING (lane))
        UPDATE website_worker.lanes l SET
          "window" = CASE WHEN j.opens_now THEN ${firstWindow} WHEN j.parked > 0 THEN greatest(1, l."window" / 2)
                          ELSE least(${widestWindow}, l."window" + j.answered) END,
          opens = CASE WHEN j.opens_now THEN l.opens + 1 WHEN j.answered > 0 THEN 0 ELSE l.opens END,
          open_until = CASE WHEN j.opens_now THEN now() + least(60, 2 ^ least(l.opens, ${mostDoublings})) * interval '1 s'
                            WHEN j.answered > 0 THEN NULL ELSE l.open_until END,
          changed_at = now()
        FROM judged j WHERE l.lane = j.lane`,
  )
}
