import { sql, type SQL } from 'drizzle-orm'
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

/** Health rows `h` of some webhooks. */
const among = (webhookIds: readonly number[] | 'all') =>
  webhookIds === 'all' ? sql`true` : sql`h.webhook_id = ANY (${sql.param(webhookIds)}::int[])`

/** Row `h` tells of a failure that came `afterMs` or more after the first one, by the clock of the database too. */
const isFailing = (afterMs: number) => sql`
  (h.last_failure_at - h.failing_since >= ${afterMs} * interval '1 ms' AND h.failing_since <= now() - ${afterMs} * interval '1 ms')`

/** How long a webhook may do nothing but fail before it is switched off. */
export const failingForMs = 5 * 86_400_000

/**
 * Notes successes and failures per webhook, whatever order processes report them in. `reportedAt`: now, by the clock that
 * told the attempts' times; where that is wrong by more than seconds they are put right. Default: the system's clock.
 * @returns the webhooks that have done nothing but fail for long: see `disableFailing`.
 */
export async function recordHealth(
  tx: Db | Tx,
  changes: readonly HealthChange[],
  options: { reportedAt?: Date } = {},
): Promise<number[]> {
  const reportedAt = options.reportedAt ?? new Date()
  // Primary keys; rows in webhook order, so that two batches never wait for each other.
  const { rows } = await tx.execute(
    sql`WITH clock AS (
          SELECT CASE WHEN abs(extract(epoch FROM behind)) < 10 THEN interval '0' ELSE behind END AS behind
          FROM (SELECT clock_timestamp() - ${reportedAt.toISOString()}::timestamptz AS behind) c)
        INSERT INTO website_worker.webhook_health AS h (webhook_id, failing_since, last_success_at, last_failure_at)
        SELECT r.webhook_id, r.first_failure_at + behind, r.last_success_at + behind, r.last_failure_at + behind
        FROM clock, unnest(
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
              ELSE excluded.failing_since END)
        RETURNING webhook_id, h.disabled_at IS NOT NULL AS is_disabled, h.disabled_at IS NULL AND ${isFailing(failingForMs)} AS is_failing`,
  )
  const idsWhere = (is: 'is_disabled' | 'is_failing') =>
    rows.filter((row) => row[is] === true).map((row) => row.webhook_id as number)
  // Something was sent to it all the same: its owner may have switched it on again.
  const disabled = idsWhere('is_disabled')
  if (disabled.length > 0) await noteReactivated(tx, disabled)
  return idsWhere('is_failing')
}

/** A webhook, for the log. */
export interface SwitchedWebhook {
  webhookId: number
  siteId: number | null
  name: string
}

/**
 * Begins anew with webhooks that we disabled and their owner has switched on again: what failed before counts no more.
 * @returns those it was true of.
 */
export async function noteReactivated(tx: Db | Tx, webhookIds: readonly number[] | 'all'): Promise<SwitchedWebhook[]> {
  // Primary keys, or a small table once. Both rows are locked, for their latest state: a webhook that is just being
  // disabled again still seems to be on. What someone else has locked is left for another time.
  const { rows } = await tx.execute(
    sql`WITH on_again AS MATERIALIZED (
          SELECT w.id, w.site_id, w.name FROM website_worker.webhook_health h
          JOIN public.website_webhooks w ON w.id = h.webhook_id
          WHERE ${among(webhookIds)} AND h.disabled_at IS NOT NULL AND w.is_active
          ORDER BY h.webhook_id FOR NO KEY UPDATE OF h, w SKIP LOCKED)
        UPDATE website_worker.webhook_health h SET failing_since = NULL, disabled_at = NULL, disabled_reason = NULL
        FROM on_again w WHERE h.webhook_id = w.id
        RETURNING w.id AS "webhookId", w.site_id AS "siteId", w.name`,
  )
  return rows as unknown as SwitchedWebhook[]
}

/** What a webhook is switched off for, one row each. */
const switchOff = (why: SQL) => sql`
  WITH why AS MATERIALIZED (${why}),
  off AS (
    UPDATE public.website_webhooks w SET is_active = false, updated_at = now() AT TIME ZONE 'UTC'
    FROM why WHERE w.id = why.id
    RETURNING w.id, w.site_id, w.name, why.reason, why.failing_since
  ), health AS (
    INSERT INTO website_worker.webhook_health AS h (webhook_id, disabled_at, disabled_reason)
    SELECT id, now(), reason FROM off ORDER BY id
    ON CONFLICT (webhook_id) DO UPDATE SET disabled_at = excluded.disabled_at, disabled_reason = excluded.disabled_reason
  ), audit AS (
    INSERT INTO public.website_audit_logs
      (site_id, action, resource_type, resource_id, resource_name, changes, user_agent, created_at)
    SELECT site_id, 'webhook.disabled', 'webhook', id, name,
      jsonb_build_object('isActive', jsonb_build_object('from', true, 'to', false), 'reason', reason),
      'website-worker', now() AT TIME ZONE 'UTC'
    FROM off ORDER BY id
  )
  SELECT id AS "webhookId", site_id AS "siteId", name, failing_since AS "failingSince" FROM off ORDER BY id`

/** Switches webhooks off on our own account, with an audit row each; those already off stay as they are. */
export async function disableWebhooks(tx: Db | Tx, webhookIds: readonly number[], reason: string): Promise<number> {
  // Primary keys; rows in webhook order. Timestamps of shared tables are UTC.
  const { rowCount } = await tx.execute(
    switchOff(sql`
      SELECT id, ${reason}::text AS reason, NULL::timestamptz AS failing_since FROM public.website_webhooks
      WHERE id = ANY (${sql.param(webhookIds)}::int[]) AND is_active
      ORDER BY id FOR NO KEY UPDATE`),
  )
  return rowCount ?? 0
}

export interface DisabledWebhook extends SwitchedWebhook {
  failingSince: Date
}

/**
 * Switches off the webhooks that have done nothing but fail for `afterMs`, with an audit row each. It takes a failure at
 * least that long after the first one: silence tells nothing. Those whose row someone has locked are left for another
 * time, and those disabled before until it is noted that their owner switched them on again.
 */
export async function disableFailing(
  tx: Db | Tx,
  webhookIds: readonly number[] | 'all',
  afterMs: number,
): Promise<DisabledWebhook[]> {
  // Primary keys, or a small table once. Health before webhook, both in webhook order, like whoever settles runs.
  const { rows } = await tx.execute(
    switchOff(sql`
      SELECT w.id, w.failing_since, 'nothing but failures since ' || to_char(w.failing_since, 'YYYY-MM-DD HH24:MI "UTC"') AS reason
      FROM (
        SELECT w.id, h.failing_since FROM website_worker.webhook_health h
        JOIN public.website_webhooks w ON w.id = h.webhook_id
        WHERE ${among(webhookIds)} AND h.disabled_at IS NULL AND w.is_active AND ${isFailing(afterMs)}
        ORDER BY h.webhook_id FOR NO KEY UPDATE OF h, w SKIP LOCKED) w`),
  )
  return (rows as { failingSince: string }[]).map((row) => ({
    ...(row as unknown as SwitchedWebhook),
    failingSince: new Date(row.failingSince),
  }))
}
