import { and, eq, sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'
import { events, webhookHealth, websiteWebhookDeliveries, websiteWebhooks } from '../schema/index.ts'

/** Everything one delivery needs, as it stood when its run began. */
export type LoadedDelivery = Awaited<ReturnType<typeof loadDeliveries>>[number]

/** Reads ledger rows with their webhook, its health and the event's body, in one statement. */
export function loadDeliveries(db: Db, deliveryIds: readonly number[]) {
  // Primary keys of the ledger, website_webhooks, webhook_health and events (site_id, id).
  return db
    .select({
      deliveryId: websiteWebhookDeliveries.id,
      eventId: websiteWebhookDeliveries.eventId,
      deliveredAt: websiteWebhookDeliveries.deliveredAt,
      webhookId: websiteWebhooks.id,
      isActive: websiteWebhooks.isActive,
      targetUrl: websiteWebhooks.targetUrl,
      secret: websiteWebhooks.secret,
      headers: websiteWebhooks.headers,
      disabledAt: webhookHealth.disabledAt,
      disabledReason: webhookHealth.disabledReason,
      failingSince: webhookHealth.failingSince,
      lastSuccessAt: webhookHealth.lastSuccessAt,
      lastFailureAt: webhookHealth.lastFailureAt,
      storedEventId: events.id,
      body: events.body,
    })
    .from(websiteWebhookDeliveries)
    .leftJoin(websiteWebhooks, eq(websiteWebhooks.id, websiteWebhookDeliveries.webhookId))
    .leftJoin(webhookHealth, eq(webhookHealth.webhookId, websiteWebhooks.id))
    .leftJoin(events, and(eq(events.siteId, websiteWebhooks.siteId), eq(events.id, websiteWebhookDeliveries.eventId)))
    .where(sql`${websiteWebhookDeliveries.id} = ANY (${sql.param(deliveryIds)}::int[])`)
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
