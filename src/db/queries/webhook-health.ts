import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'

/** How attempts at one webhook went. */
export interface HealthChange {
  webhookId: number
  lastSuccessAt: Date | null
  /** First failure after `lastSuccessAt`. */
  firstFailureAt: Date | null
  lastFailureAt: Date | null
}

/** Folds attempts into one change per webhook. */
export function foldHealth(attempts: readonly { webhookId: number; at: Date; ok: boolean }[]): HealthChange[] {
  const changes = new Map<number, HealthChange>()
  for (const { webhookId, at, ok } of attempts.toSorted((a, b) => a.at.getTime() - b.at.getTime())) {
    const before = changes.get(webhookId)
    if (ok) {
      changes.set(webhookId, {
        webhookId,
        lastSuccessAt: at,
        firstFailureAt: null,
        lastFailureAt: before?.lastFailureAt ?? null,
      })
    } else {
      const { lastSuccessAt = null, firstFailureAt = null } = before ?? {}
      changes.set(webhookId, { webhookId, lastSuccessAt, firstFailureAt: firstFailureAt ?? at, lastFailureAt: at })
    }
  }
  return [...changes.values()]
}

const instants = (values: readonly (Date | null)[]) =>
  sql`${sql.param(values.map((value) => value?.toISOString() ?? null))}::timestamptz[]`

/**
 * Notes successes and failures per webhook, whatever order processes report them in. A success after a webhook was
 * disabled means that its owner switched it on again.
 */
export async function recordHealth(tx: Db | Tx, changes: readonly HealthChange[]): Promise<void> {
  // Primary keys; rows in webhook order, so that two batches never wait for each other.
  await tx.execute(
    sql`INSERT INTO website_worker.webhook_health AS h (webhook_id, failing_since, last_success_at, last_failure_at)
        SELECT r.webhook_id, r.first_failure_at, r.last_success_at, r.last_failure_at
        FROM unnest(
          ${sql.param(changes.map((c) => c.webhookId))}::int[], ${instants(changes.map((c) => c.firstFailureAt))},
          ${instants(changes.map((c) => c.lastSuccessAt))}, ${instants(changes.map((c) => c.lastFailureAt))}
        ) AS r(webhook_id, first_failure_at, last_success_at, last_failure_at)
        ORDER BY r.webhook_id
        ON CONFLICT (webhook_id) DO UPDATE SET
          last_success_at = greatest(h.last_success_at, excluded.last_success_at),
          last_failure_at = greatest(h.last_failure_at, excluded.last_failure_at),
          failing_since = least(
            CASE WHEN excluded.last_success_at >= h.failing_since THEN NULL ELSE h.failing_since END,
            CASE WHEN excluded.failing_since <= h.last_success_at
              THEN CASE WHEN excluded.last_failure_at > h.last_success_at THEN excluded.last_failure_at END
              ELSE excluded.failing_since END),
          disabled_at = CASE WHEN excluded.last_success_at > h.disabled_at THEN NULL ELSE h.disabled_at END,
          disabled_reason = CASE WHEN excluded.last_success_at > h.disabled_at THEN NULL ELSE h.disabled_reason END`,
  )
}

/** Switches webhooks off on our own account, with an audit row each; those already off stay as they are. */
export async function disableWebhooks(tx: Db | Tx, webhookIds: readonly number[], reason: string): Promise<number> {
  // Primary keys; rows in webhook order. Timestamps of shared tables are UTC.
  const { rowCount } = await tx.execute(
    sql`WITH locked AS (
          SELECT id FROM public.website_webhooks
          WHERE id = ANY (${sql.param(webhookIds)}::int[]) AND is_active
          ORDER BY id FOR NO KEY UPDATE
        ), off AS (
          UPDATE public.website_webhooks w SET is_active = false, updated_at = now() AT TIME ZONE 'UTC'
          FROM locked WHERE w.id = locked.id
          RETURNING w.id, w.site_id, w.name
        ), health AS (
          INSERT INTO website_worker.webhook_health AS h (webhook_id, disabled_at, disabled_reason)
          SELECT id, now(), ${reason} FROM off ORDER BY id
          ON CONFLICT (webhook_id) DO UPDATE SET disabled_at = excluded.disabled_at, disabled_reason = excluded.disabled_reason
        )
        INSERT INTO public.website_audit_logs
          (site_id, action, resource_type, resource_id, resource_name, changes, user_agent, created_at)
        SELECT site_id, 'webhook.disabled', 'webhook', id, name,
          jsonb_build_object('isActive', jsonb_build_object('from', true, 'to', false), 'reason', ${reason}::text),
          'website-worker', now() AT TIME ZONE 'UTC'
        FROM off ORDER BY id`,
  )
  return rowCount ?? 0
}
