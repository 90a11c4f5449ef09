import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'

/** Everything one delivery needs, as it stood when its run began. */
export interface LoadedDelivery {
  deliveryId: number
  eventId: string | null
  isDelivered: boolean
  /** Null once the webhook is gone, like its columns. */
  webhookId: number | null
  isActive: boolean | null
  targetUrl: string | null
  secret: string | null
  /** Whatever the owner's JSON holds. */
  headers: unknown
  /** The origin it goes to; null once the webhook is gone. */
  lane: string | null
  /** What goes there waits for its turn. */
  isManaged: boolean | null
  /** Nothing is to be sent there now. */
  isOpen: boolean
  isDisabledByUs: boolean
  disabledReason: string | null
  /** Nothing but failures since the last success. */
  isFailing: boolean
  /** Last success noted, or last failure while it is failing. */
  healthNotedMs: number | null
  isEventStored: boolean
  body: string | null
}

/** The origin that webhook `w` goes to, as far as SQL can tell; a lane of its own for a URL that tells none. */
const laneOfHook = sql`coalesce(website_worker.lane_of(w.target_url), 'webhook ' || w.id)`

/** Reads ledger rows with their webhook, its health and lane, and the event's body, in one statement. */
export async function loadDeliveries(db: Db, deliveryIds: readonly number[]): Promise<LoadedDelivery[]> {
  // Primary keys of the ledger, website_webhooks, webhook_health, lanes and events (site_id, id).
  const { rows } = await db.execute(
    sql`WITH d AS MATERIALIZED (
          SELECT id, event_id, delivered_at IS NOT NULL AS is_delivered, webhook_id
          FROM public.website_webhook_deliveries WHERE id = ANY (${sql.param(deliveryIds)}::int[])),
        hooks AS MATERIALIZED (
          SELECT w.*, website_worker.is_managed(w.lane) AS is_managed, l.open_until > now() AS is_open
          FROM (SELECT w.*, ${laneOfHook} AS lane
                FROM public.website_webhooks w WHERE w.id IN (SELECT webhook_id FROM d)) w
          LEFT JOIN website_worker.lanes l ON l.lane = w.lane)
        SELECT d.id AS "deliveryId", d.event_id AS "eventId", d.is_delivered AS "isDelivered",
          w.id AS "webhookId", w.is_active AS "isActive", w.target_url AS "targetUrl", w.secret, w.headers,
          w.lane, w.is_managed AS "isManaged", w.is_open IS TRUE AS "isOpen",
          h.disabled_at IS NOT NULL AS "isDisabledByUs", h.disabled_reason AS "disabledReason",
          h.failing_since IS NOT NULL AS "isFailing",
          (extract(epoch FROM CASE WHEN h.failing_since IS NULL THEN h.last_success_at ELSE h.last_failure_at END) * 1000)::float8
            AS "healthNotedMs",
          e.id IS NOT NULL AS "isEventStored", e.body
        FROM d
        LEFT JOIN hooks w ON w.id = d.webhook_id
        LEFT JOIN website_worker.webhook_health h ON h.webhook_id = w.id
        LEFT JOIN website_worker.events e ON e.site_id = w.site_id AND e.id = d.event_id`,
  )
  return rows as unknown as LoadedDelivery[]
}

/** The origins that deliveries go to, and whether what goes there has to wait for its turn; without those that go nowhere. */
export async function lanesOfDeliveries(
  db: Db,
  items: readonly { workId: number; payload: { deliveryId: number } }[],
): Promise<Map<number, { targetUrl: string; lane: string; isManaged: boolean }>> {
  const column = (pick: (item: (typeof items)[number]) => number, type: string) =>
    sql`${sql.param(items.map(pick))}::${sql.raw(type)}[]`
  // Primary keys.
  const { rows } = await db.execute(
    sql`WITH d AS MATERIALIZED (
          SELECT i.work_id, d.webhook_id
          FROM unnest(${column((i) => i.workId, 'bigint')}, ${column((i) => i.payload.deliveryId, 'int')})
            AS i(work_id, delivery_id)
          JOIN public.website_webhook_deliveries d ON d.id = i.delivery_id),
        hooks AS MATERIALIZED (
          SELECT w.*, website_worker.is_managed(w.lane) AS is_managed
          FROM (SELECT w.id, w.target_url, ${laneOfHook} AS lane FROM public.website_webhooks w
                WHERE w.id IN (SELECT webhook_id FROM d) AND w.is_active) w)
        SELECT d.work_id AS "workId", w.target_url AS "targetUrl", w.lane, w.is_managed AS "isManaged" FROM d JOIN hooks w ON w.id = d.webhook_id`,
  )
  return new Map(
    rows.map(({ workId, ...row }) => [Number(workId), row as { targetUrl: string; lane: string; isManaged: boolean }]),
  )
}

/** What the ledger is told of a run. */
export interface LedgerEntry {
  deliveryId: number
  /** Null: nothing was sent, so it counts no attempt and the last answer stands. */
  sent: { at: Date; durationMs: number; statusCode: number | null; responseBody: string | null } | null
  delivered: boolean
  /** What happened, for people; null when delivered. */
  message: string | null
  /** The attempt's own failure, without what comes next. */
  error: string | null
  trigger: string
}

type Columns = <Row>(rows: readonly Row[]) => <Value>(pick: (row: Row) => Value, type: string) => ReturnType<typeof sql>
const columns: Columns = (rows) => (pick, type) => sql`${sql.param(rows.map(pick))}::${sql.raw(type)}[]`

/** Updates ledger rows and appends the attempts that were made. Keeps `delivered_at` once it is set. */
export async function recordDeliveries(tx: Db | Tx, entries: readonly LedgerEntry[]): Promise<void> {
  const column = columns(entries)
  // The ledger's primary key.
  await tx.execute(
    sql`WITH r AS MATERIALIZED (
          SELECT * FROM unnest(
            ${column((e) => e.deliveryId, 'int')}, ${column((e) => e.sent?.at.toISOString() ?? null, 'timestamptz')},
            ${column((e) => e.sent?.durationMs ?? null, 'int')}, ${column((e) => e.sent?.statusCode ?? null, 'int')},
            ${column((e) => e.sent?.responseBody ?? null, 'text')}, ${column((e) => e.delivered, 'bool')},
            ${column((e) => e.message, 'text')}, ${column((e) => e.error, 'text')}, ${column((e) => e.trigger, 'text')}
          ) AS r(delivery_id, sent_at, duration_ms, status_code, response_body, delivered, message, error, trigger)
        ), ledger AS (
          UPDATE public.website_webhook_deliveries d SET
            attempts = coalesce(d.attempts, 0) + (r.sent_at IS NOT NULL)::int,
            status_code = CASE WHEN r.sent_at IS NULL THEN d.status_code ELSE r.status_code END,
            response_body = CASE WHEN r.sent_at IS NULL THEN d.response_body ELSE r.response_body END,
            error_message = r.message,
            delivered_at = CASE WHEN r.delivered THEN coalesce(d.delivered_at, now() AT TIME ZONE 'UTC') ELSE d.delivered_at END
          FROM r WHERE d.id = r.delivery_id
          RETURNING d.id, d.attempts
        )
        INSERT INTO website_worker.webhook_attempts (delivery_id, attempt, at, status_code, duration_ms, error, trigger)
        SELECT l.id, l.attempts, r.sent_at, r.status_code, r.duration_ms, r.error, r.trigger
        FROM ledger l JOIN r ON r.delivery_id = l.id
        WHERE r.sent_at IS NOT NULL
        ORDER BY r.sent_at, l.id`,
  )
}
