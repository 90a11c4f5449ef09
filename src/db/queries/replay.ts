import { sql, type SQL } from 'drizzle-orm'
import { transact, type Db, type Tx } from '../client.ts'
import { deliveryLabel, deliveryStatus, latestItem } from './deliveries.ts'

/** Which deliveries of a webhook are to be owed again; instants are ISO 8601. */
export interface ReplayWindow {
  webhookId: number
  since: string
  until: string
  status: string
}

/** How far a replay has come. */
export interface ReplayProgress {
  /** Deliveries up to this id were looked at. */
  position: number
  /** The last one it looks at. */
  lastId: number
  total: number
  replayed: number
}

/** What keeps a replay from going on. */
export type ReplayStop =
  | { kind: 'ended' }
  | { kind: 'gone' }
  | { kind: 'off'; disabledReason: string | null }
  | { kind: 'blocked'; reason: string }

export interface ReplayStep {
  progress: ReplayProgress
  /** Work items it owed. */
  owed: number[]
}

/** Ledger rows that one statement looks at, at most. */
const countWindow = 20_000
const stepWindow = 5_000

/** Rows of the ledger behind a position, in order. Served by (webhook_id, id). */
const behind = (webhookId: number, position: number, lastId: number, limit: number) => sql`
  SELECT d.id, d.event_id, d.created_at, d.delivered_at FROM public.website_webhook_deliveries d
  WHERE d.webhook_id = ${webhookId} AND d.id > ${position} AND d.id <= ${lastId} ORDER BY d.id LIMIT ${limit}`

/** Whether ledger row `d` with its item `k` is one to replay; the ledger's instants are UTC. */
const wanted = ({ since, until, status }: ReplayWindow) => sql`
  d.created_at >= ${since}::timestamptz AT TIME ZONE 'UTC' AND d.created_at <= ${until}::timestamptz AT TIME ZONE 'UTC'
  AND ${deliveryStatus} = ${status}`

// Laterally with a limit, so that no plan reads all events.
const storedBody = (webhookId: number): SQL => sql`
  SELECT e.id FROM public.website_webhooks w
  JOIN website_worker.events e ON e.site_id = w.site_id AND e.id = d.event_id AND e.body IS NOT NULL
  WHERE w.id = ${webhookId} LIMIT 1`

/** What a webhook's replay would find. */
export interface ReplayCount {
  /** Deliveries that can be sent again. */
  replayable: number
  /** Deliveries whose event's body is no longer kept. */
  bodiless: number
  /** The first of the former. */
  firstId: number | null
  lastId: number
}

/** Counts what a window holds now, in statements of bounded size; undefined when told to stop. */
export async function countReplayable(
  db: Db,
  window: ReplayWindow,
  signal: AbortSignal,
): Promise<ReplayCount | undefined> {
  const { webhookId } = window
  // The ledger by (webhook_id, id).
  const last = await db.execute(
    sql`SELECT coalesce(max(id), 0) AS id FROM public.website_webhook_deliveries WHERE webhook_id = ${webhookId}`,
  )
  const count: ReplayCount = { replayable: 0, bodiless: 0, firstId: null, lastId: last.rows[0]?.id as number }
  for (let position = 0; position < count.lastId;) {
    if (signal.aborted) return undefined
    // The ledger by (webhook_id, id); work_job_key and primary keys.
    const { rows } = await db.execute(
      sql`WITH scanned AS MATERIALIZED (${behind(webhookId, position, count.lastId, countWindow)})
          SELECT (SELECT max(id) FROM scanned) AS position, count(e.id)::int AS replayable,
            (count(*) - count(e.id))::int AS bodiless, min(d.id) FILTER (WHERE e.id IS NOT NULL) AS first_id
          FROM scanned d LEFT JOIN LATERAL (${latestItem}) k ON true LEFT JOIN LATERAL (${storedBody(webhookId)}) e ON true
          WHERE ${wanted(window)}`,
    )
    const row = rows[0]!
    count.replayable += row.replayable as number
    count.bodiless += row.bodiless as number
    count.firstId ??= row.first_id as number | null
    position = (row.position as number | null) ?? count.lastId
  }
  return count
}

const progressColumns = sql`r.position, r.last_id AS "lastId", r.total, r.replayed`

/** How far a replay came before; undefined when it is to begin. */
export async function findReplay(db: Db, workId: number): Promise<ReplayProgress | undefined> {
  // Primary key.
  const { rows } = await db.execute(
    sql`SELECT ${progressColumns} FROM website_worker.webhook_replays r WHERE r.work_id = ${workId}`,
  )
  return rows[0] as ReplayProgress | undefined
}

/** Notes what a replay is about to do. */
export async function beginReplay(db: Db, workId: number, count: ReplayCount): Promise<void> {
  const position = count.firstId === null ? count.lastId : count.firstId - 1
  // Primary key.
  await db.execute(
    sql`INSERT INTO website_worker.webhook_replays (work_id, position, last_id, total)
        VALUES (${workId}, ${position}, ${count.lastId}, ${count.replayable}) ON CONFLICT DO NOTHING`,
  )
}

/** Forgets replays that are done, and leaves their last word as the job's progress. */
export async function endReplays(tx: Db | Tx, workIds: readonly number[]): Promise<void> {
  // Primary keys.
  await tx.execute(
    sql`WITH ended AS (
          DELETE FROM website_worker.webhook_replays WHERE work_id = ANY (${sql.param(workIds)}::bigint[])
          RETURNING work_id, total, replayed)
        UPDATE website_worker.work w
        SET progress = jsonb_build_object('total', e.total, 'replayed', e.replayed, 'percent', 100)
        FROM ended e WHERE w.id = e.work_id`,
  )
}

/** Why a replay can't go on; its item is locked against being cancelled in the middle of a step. */
async function whatStops(tx: Tx, workId: number, webhookId: number): Promise<ReplayStop | undefined> {
  // Primary keys.
  const item = await tx.execute(
    sql`SELECT FROM website_worker.work WHERE id = ${workId} AND state = 'running' FOR SHARE`,
  )
  if (item.rows.length === 0) return { kind: 'ended' }
  const { rows } = await tx.execute(
    sql`SELECT w.is_active, h.disabled_reason, website_worker.hold_reason('webhooks', coalesce(w.site_id, 0)) AS blocked
        FROM public.website_webhooks w LEFT JOIN website_worker.webhook_health h ON h.webhook_id = w.id
        WHERE w.id = ${webhookId}`,
  )
  const [hook] = rows
  if (!hook) return { kind: 'gone' }
  if (hook.is_active !== true) return { kind: 'off', disabledReason: hook.disabled_reason as string | null }
  if (hook.blocked !== null) return { kind: 'blocked', reason: hook.blocked as string }
  return undefined
}

/**
 * Owes the next `limit` deliveries of a replay again from their first attempt, and notes how far it came in the same
 * transaction. Deliveries that are unfinished already are left alone, and `delivered_at` stays as it is.
 */
export function stepReplay(
  db: Db,
  workId: number,
  window: ReplayWindow,
  limit: number,
): Promise<ReplayStep | ReplayStop> {
  const { webhookId } = window
  return transact(db, async (tx) => {
    const stop = await whatStops(tx, workId, webhookId)
    if (stop) return stop
    // Locked, so that a run that was overtaken can't take the same page. Primary key.
    const begun = await tx.execute(
      sql`SELECT ${progressColumns} FROM website_worker.webhook_replays r WHERE r.work_id = ${workId} FOR UPDATE`,
    )
    const from = begun.rows[0] as ReplayProgress | undefined
    if (!from) return { kind: 'ended' }
    // The ledger by (webhook_id, id); work_job_key and primary keys; work_unfinished_key for the twin. Items are locked
    // in id order, as in every transition of many rows.
    const { rows } = await tx.execute(
      sql`WITH scanned AS MATERIALIZED (${behind(webhookId, from.position, from.lastId, stepWindow)}),
          page AS MATERIALIZED (
            SELECT d.id, k.id AS work_id FROM (SELECT * FROM scanned ORDER BY id) d
            LEFT JOIN LATERAL (${latestItem}) k ON true CROSS JOIN LATERAL (${storedBody(webhookId)}) e
            WHERE ${wanted(window)} ORDER BY d.id LIMIT ${limit}),
          locked AS MATERIALIZED (
            SELECT w.id FROM website_worker.work w
            WHERE w.id = ANY (ARRAY(SELECT work_id FROM page WHERE work_id IS NOT NULL))
              AND w.state IN ('failed', 'cancelled', 'done', 'held')
            ORDER BY w.id FOR UPDATE),
          rearmed AS (
            UPDATE website_worker.work w
            SET state = 'owed', reason = NULL, generation = w.generation + 1, attempts = 0, crashes = 0,
                trigger = 'replay', next_at = now(), rung_at = NULL, lane = NULL, lease_until = NULL, lease_token = NULL,
                result = NULL, finished_at = NULL
            WHERE w.id = ANY (ARRAY(SELECT id FROM locked)) AND (
              SELECT o.id FROM website_worker.work o
              WHERE o.job = w.job AND o.key = w.key AND o.id <> w.id AND o.state IN ('owed', 'running', 'held')
              LIMIT 1) IS NULL
            RETURNING w.id),
          made AS (
            INSERT INTO website_worker.work (job, key, site_id, payload, label, trigger)
            SELECT 'deliver-webhook', d.id::text, w.site_id, jsonb_build_object('deliveryId', d.id), ${deliveryLabel},
              'replay'
            FROM page p JOIN public.website_webhook_deliveries d ON d.id = p.id
            JOIN public.website_webhooks w ON w.id = d.webhook_id
            JOIN website_worker.events e ON e.site_id = w.site_id AND e.id = d.event_id
            WHERE p.work_id IS NULL ORDER BY d.id
            ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING
            RETURNING id),
          owed AS MATERIALIZED (SELECT id FROM rearmed UNION ALL SELECT id FROM made)
          UPDATE website_worker.webhook_replays r
          SET changed_at = now(), replayed = r.replayed + (SELECT count(*) FROM owed),
              position = CASE WHEN (SELECT count(*) FROM page) = ${limit} THEN (SELECT max(id) FROM page)
                              WHEN (SELECT count(*) FROM scanned) = ${stepWindow} THEN (SELECT max(id) FROM scanned)
                              ELSE r.last_id END
          WHERE r.work_id = ${workId}
          RETURNING ${progressColumns}, ARRAY(SELECT id FROM owed)::text[] AS owed`,
    )
    const { owed, ...progress } = rows[0] as unknown as ReplayProgress & { owed: string[] }
    return { progress, owed: owed.map(Number) }
  })
}

/** Which of these items still wait for their first attempt to end. */
export async function stillOutstanding(db: Db, workIds: readonly number[]): Promise<number[]> {
  // Primary key.
  const { rows } = await db.execute(
    sql`SELECT id FROM website_worker.work
        WHERE id = ANY (${sql.param(workIds)}::bigint[]) AND state IN ('owed', 'running') AND attempts = 0`,
  )
  return rows.map((row) => Number(row.id))
}

/** What a replay owed before its process ended and still waits for its first attempt, among the last it took. */
export async function outstandingBefore(db: Db, webhookId: number, position: number): Promise<number[]> {
  // The ledger by (webhook_id, id); work_unfinished_key.
  const { rows } = await db.execute(
    sql`SELECT k.id FROM (
          SELECT d.id FROM public.website_webhook_deliveries d
          WHERE d.webhook_id = ${webhookId} AND d.id <= ${position} ORDER BY d.id DESC LIMIT 2000) d
        CROSS JOIN LATERAL (
          SELECT w.id, w.state, w.trigger, w.attempts FROM website_worker.work w
          WHERE w.job = 'deliver-webhook' AND w.key = d.id::text AND w.state IN ('owed', 'running', 'held') LIMIT 1) k
        WHERE k.state <> 'held' AND k.trigger = 'replay' AND k.attempts = 0`,
  )
  return rows.map((row) => Number(row.id))
}
