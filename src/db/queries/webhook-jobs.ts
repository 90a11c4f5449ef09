import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'

/** The work item that stands for what was asked of a webhook. */
export interface WebhookJob {
  workId: number
  job: string
  state: 'owed' | 'running' | 'held'
  /** Why it is held. */
  reason: string | null
  generation: number
  label: string
  attempts: number
  /** How long until it is due, ms; 0 when due. */
  delayMs: number
  /** False when the same was asked before and isn't done yet. */
  created: boolean
}

export interface WebhookJobRequest {
  job: string
  webhookId: number
  /** What tells it from others of its job; equal ones that are unfinished are one. */
  key: string
  payload: Readonly<Record<string, unknown>>
  label: string
  /** The caller rings the item after its commit, if it was created and is owed; else the dispatcher finds it. */
  rung: boolean
}

/**
 * Owes a job of a webhook, or finds the unfinished item of the same key, which is not owed once more after its end as
 * one of `enqueueItem` would be. Undefined when there is no such webhook.
 */
export async function oweWebhookJob(db: Db, request: WebhookJobRequest): Promise<WebhookJob | undefined> {
  const { job, webhookId, key, payload, label, rung } = request
  // The insert waits for whoever is inserting the same key, and only a later statement sees that row; by then it may
  // have ended, and the next round inserts.
  for (let round = 1; ; round++) {
    // Primary key of website_webhooks; work_unfinished_key.
    const { rows } = await db.execute(sql`
      WITH hook AS MATERIALIZED (
        SELECT w.site_id, website_worker.hold_reason('webhooks', coalesce(w.site_id, 0)) AS reason
        FROM public.website_webhooks w WHERE w.id = ${webhookId}
      ), made AS (
        INSERT INTO website_worker.work (job, key, site_id, payload, label, state, reason, rung_at)
        SELECT ${job}, ${key}, h.site_id, ${JSON.stringify(payload)}::jsonb, ${label},
          CASE WHEN h.reason IS NULL THEN 'owed' ELSE 'held' END, h.reason,
          CASE WHEN ${rung} AND h.reason IS NULL THEN now() END
        FROM hook h
        ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING
        RETURNING id, state, reason, generation, label, attempts, next_at
      )
      SELECT f.*, ceil(greatest(0, extract(epoch FROM f.next_at - now()) * 1000))::float8 AS delay_ms
      FROM hook LEFT JOIN (
        SELECT *, true AS created FROM made
        UNION ALL
        SELECT id, state, reason, generation, label, attempts, next_at, false FROM website_worker.work
        WHERE job = ${job} AND key = ${key} AND state IN ('owed', 'running', 'held')
      ) f ON true
      ORDER BY f.created DESC`)
    const [row] = rows
    if (!row) return undefined
    if (row.id === null) {
      if (round === 10) throw new Error(`items of ${job} ${key} end faster than they can be found`)
      continue
    }
    return {
      workId: Number(row.id),
      job,
      state: row.state as WebhookJob['state'],
      reason: row.reason as string | null,
      generation: row.generation as number,
      label: row.label as string,
      attempts: row.attempts as number,
      delayMs: row.delay_ms as number,
      created: row.created as boolean,
    }
  }
}

/** The database's clock, ms, rounded up: not before anything that was written until now. */
export async function databaseNowMs(db: Db): Promise<number> {
  const { rows } = await db.execute(sql`SELECT ceil(extract(epoch FROM now()) * 1000)::float8 AS "nowMs"`)
  return rows[0]!.nowMs as number
}
