import { asc, eq, sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { webhookAttempts } from '../schema/worker.ts'

export type DeliveryStatus = 'pending' | 'delivered' | 'failed' | 'held' | 'cancelled'

/** A work item to ring. */
interface Ring {
  workId: number
  job: string
  generation: number
  label: string
  attempts: number
  delayMs: number
}

/** A row of the ledger together with its latest work item, which decides what comes next. */
export interface Delivery {
  id: number
  webhookId: number | null
  siteId: number | null
  eventId: string | null
  event: string | null
  status: DeliveryStatus
  /** Why it is held or cancelled. */
  reason: string | null
  statusCode: number | null
  attempts: number
  nextAt: Date | null
  error: string | null
  responseBody: string | null
  createdAt: Date | null
  deliveredAt: Date | null
  /** Its latest work item, kept 7 days after its end. */
  workId: number | null
}

export interface DeliveryFilter {
  /** Whose deliveries. */
  of: { webhookId: number } | { siteId: number }
  status?: DeliveryStatus | undefined
  /** Only ids below this one. Default: from the newest. */
  before?: number | undefined
  limit: number
}

export interface DeliveryPage {
  items: Delivery[]
  /** Where the next page begins; null at the end. */
  next: number | null
}

/** Ledger rows that one page looks at, at most. */
const pageWindow = 10_000

/** The latest work item of ledger row `d`, which decides what comes next. */
export const latestItem = sql`
  SELECT k.id, k.state, k.reason, k.next_at FROM website_worker.work k
  WHERE k.job = 'deliver-webhook' AND k.key = d.id::text ORDER BY k.id DESC LIMIT 1`

// A resend that is under way is pending, although it was delivered before; one that failed again stays delivered.
// The work item goes 7 days after its end: an undelivered row without one has failed.
export const deliveryStatus = sql`
  CASE WHEN k.state IN ('owed', 'running') THEN 'pending' WHEN k.state = 'held' THEN 'held'
       WHEN d.delivered_at IS NOT NULL THEN 'delivered' WHEN k.state = 'cancelled' THEN 'cancelled' ELSE 'failed' END`

const columns = sql`
  d.id, d.webhook_id AS "webhookId", w.site_id AS "siteId", d.event_id AS "eventId",
  coalesce(e.event, w.event) AS event, ${deliveryStatus} AS status,
  CASE WHEN k.state IN ('held', 'cancelled') THEN k.reason END AS reason,
  d.status_code AS "statusCode", coalesce(d.attempts, 0) AS attempts,
  CASE WHEN k.state = 'owed' THEN k.next_at END AS "nextAt", d.error_message AS error, d.response_body AS "responseBody",
  d.created_at AT TIME ZONE 'UTC' AS "createdAt", d.delivered_at AT TIME ZONE 'UTC' AS "deliveredAt", k.id AS "workId"`

const owners = sql`
  LEFT JOIN public.website_webhooks w ON w.id = d.webhook_id
  LEFT JOIN website_worker.events e ON e.site_id = w.site_id AND e.id = d.event_id`

function readDelivery(row: Record<string, unknown>): Delivery {
  const date = (value: unknown) => (value === null ? null : new Date(value as string))
  const { id, webhookId, siteId, eventId, event, status, reason, statusCode, attempts, error, responseBody } =
    row as unknown as Delivery
  return {
    id,
    webhookId,
    siteId,
    eventId,
    event,
    status,
    reason,
    statusCode,
    attempts,
    error,
    responseBody,
    nextAt: date(row.nextAt),
    createdAt: date(row.createdAt),
    deliveredAt: date(row.deliveredAt),
    workId: row.workId === null ? null : Number(row.workId),
  }
}

/** One delivery. */
export async function findDelivery(db: Db, id: number): Promise<Delivery | undefined> {
  // Primary keys; work_job_key.
  const { rows } = await db.execute(sql`
    SELECT ${columns} FROM public.website_webhook_deliveries d ${owners}
    LEFT JOIN LATERAL (${latestItem}) k ON true
    WHERE d.id = ${id}`)
  return rows[0] && readDelivery(rows[0])
}

/** Its HTTP requests, oldest first, as far as they are kept. */
export function listAttempts(db: Db, deliveryId: number) {
  // Primary key (delivery_id, id).
  return db
    .select({
      attempt: webhookAttempts.attempt,
      at: webhookAttempts.at,
      statusCode: webhookAttempts.statusCode,
      durationMs: webhookAttempts.durationMs,
      error: webhookAttempts.error,
      trigger: webhookAttempts.trigger,
    })
    .from(webhookAttempts)
    .where(eq(webhookAttempts.deliveryId, deliveryId))
    .orderBy(asc(webhookAttempts.id))
    .limit(1_000)
}

/** What the work item of event `e` for webhook `w` is called: with the host alone, since the rest of a URL may hold a secret. */
export const deliveryLabel = sql`left(e.event || ' → ' || coalesce(substring(translate(w.target_url, chr(92), '/')
  FROM '^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?([^/?#@[:space:][:cntrl:]]+)'), 'webhook ' || w.id), 120)`

/** Whether the body that a resend would send is still kept. */
export async function hasEventBody(db: Db, deliveryId: number): Promise<boolean> {
  // Primary keys.
  const { rows } = await db.execute(sql`
    SELECT FROM public.website_webhook_deliveries d
    JOIN public.website_webhooks w ON w.id = d.webhook_id
    JOIN website_worker.events e ON e.site_id = w.site_id AND e.id = d.event_id AND e.body IS NOT NULL
    WHERE d.id = ${deliveryId}`)
  return rows.length > 0
}

/**
 * Owes a delivery whose work item is no longer kept; held where its site is.
 * @returns the new item, to be rung if `rung` was promised; undefined when there is an unfinished one by now, or it is held
 */
export async function oweDelivery(db: Db, deliveryId: number, rung: boolean): Promise<Ring | undefined> {
  // Primary keys; work_unfinished_key.
  const { rows } = await db.execute(sql`
    INSERT INTO website_worker.work (job, key, site_id, payload, label, state, reason, trigger, rung_at)
    SELECT 'deliver-webhook', d.id::text, w.site_id, jsonb_build_object('deliveryId', d.id), ${deliveryLabel},
      CASE WHEN h.reason IS NULL THEN 'owed' ELSE 'held' END, h.reason, 'retry',
      CASE WHEN ${rung} AND h.reason IS NULL THEN now() END
    FROM public.website_webhook_deliveries d
    JOIN public.website_webhooks w ON w.id = d.webhook_id
    JOIN website_worker.events e ON e.site_id = w.site_id AND e.id = d.event_id
    CROSS JOIN LATERAL (SELECT website_worker.hold_reason('webhooks', w.site_id) AS reason) h
    WHERE d.id = ${deliveryId}
    ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING
    RETURNING id, generation, label, state`)
  const [row] = rows
  if (row?.state !== 'owed') return undefined
  return {
    workId: Number(row.id),
    job: 'deliver-webhook',
    generation: row.generation as number,
    label: row.label as string,
    attempts: 0,
    delayMs: 0,
  }
}

/**
 * A page of the ledger, newest first. The status of a row is known only together with its work item, so a filtered page
 * walks the webhook's rows by id and looks at no more than `pageWindow` of them: it may hold few rows or none and still
 * have a next page. A site's page walks each of its webhooks; it ends where the first of those walks was cut off (the
 * floor), since below that id rows are missing.
 */
export async function listDeliveries(db: Db, filter: DeliveryFilter): Promise<DeliveryPage> {
  const { of, limit } = filter
  const hooks =
    'webhookId' in of
      ? sql`SELECT ${of.webhookId}::int AS id`
      : sql`SELECT id FROM public.website_webhooks WHERE site_id = ${of.siteId}`
  const before = filter.before === undefined ? sql`true` : sql`d.id < ${filter.before}`
  const each = filter.status
    ? sql`greatest(${limit + 1}, ${pageWindow} / greatest(1, (SELECT count(*) FROM hooks)))`
    : sql`${limit + 1}`
  // Spares the look at the work item where the ledger row alone rules the status out.
  const possible =
    filter.status === 'failed' || filter.status === 'cancelled'
      ? sql`d.delivered_at IS NULL`
      : filter.status === 'delivered'
        ? sql`d.delivered_at IS NOT NULL`
        : sql`true`
  const wanted = filter.status ? sql`${possible} AND ${deliveryStatus} = ${filter.status}` : sql`true`
  // idx_website_webhooks_site_id; the ledger by (webhook_id, id); work_job_key and primary keys for the page.
  const { rows } = await db.execute(sql`
    WITH hooks AS MATERIALIZED (${hooks}), scanned AS MATERIALIZED (
      SELECT d.id, d.webhook_id, d.delivered_at FROM hooks h CROSS JOIN LATERAL (
        SELECT d.id, d.webhook_id, d.delivered_at FROM public.website_webhook_deliveries d
        WHERE d.webhook_id = h.id AND ${before} ORDER BY d.id DESC LIMIT ${each}) d
    ), walk AS (
      SELECT coalesce(max(s.lowest), 0) AS floor FROM (
        SELECT min(id) AS lowest FROM scanned GROUP BY webhook_id HAVING count(*) >= ${each}) s
    ), page AS MATERIALIZED (
      SELECT d.id FROM (SELECT * FROM scanned ORDER BY id DESC) d LEFT JOIN LATERAL (${latestItem}) k ON true
      WHERE d.id >= (SELECT floor FROM walk) AND ${wanted}
      ORDER BY d.id DESC LIMIT ${limit + 1}
    )
    SELECT walk.floor, p.* FROM walk LEFT JOIN (
      SELECT ${columns} FROM page JOIN public.website_webhook_deliveries d ON d.id = page.id ${owners}
      LEFT JOIN LATERAL (${latestItem}) k ON true
    ) p ON true
    ORDER BY p.id DESC`)
  const floor = Number(rows[0]?.floor ?? 0)
  const items = rows.filter((row) => row.id !== null).map(readDelivery)
  if (items.length > limit) return { items: items.slice(0, limit), next: items[limit - 1]!.id }
  return { items, next: floor > 0 ? floor : null }
}
