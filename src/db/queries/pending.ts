import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'

/** Unfinished deliveries that one look walks past, at most. */
const pageSize = 2_000

export interface PendingPage {
  /** Unfinished work items of the webhook's deliveries. */
  workIds: number[]
  /** Where to go on; null at the end. */
  next: string | null
}

/**
 * A page of a webhook's unfinished deliveries. Walks the unfinished ones of all webhooks, of which there are far fewer
 * than rows in a ledger that has grown for years. `after`: `next` of the page before; from the beginning with `''`.
 */
export async function listPending(db: Db, webhookId: number, after: string): Promise<PendingPage> {
  // work_unfinished_key, then the ledger's primary key.
  const { rows } = await db.execute(
    sql`WITH walked AS MATERIALIZED (
          SELECT w.id, w.key FROM website_worker.work w
          WHERE w.job = 'deliver-webhook' AND w.state IN ('owed', 'running', 'held') AND w.key > ${after}
          ORDER BY w.key LIMIT ${pageSize})
        SELECT count(*)::int AS walked, max(w.key) AS last, coalesce(array_agg(w.id) FILTER (WHERE d.id IS NOT NULL), '{}')::text[] AS ids
        FROM walked w LEFT JOIN LATERAL (
          SELECT d.id FROM public.website_webhook_deliveries d
          WHERE d.id = CASE WHEN w.key ~ '^[0-9]{1,10}$' THEN w.key::bigint END AND d.webhook_id = ${webhookId} LIMIT 1) d ON true`,
  )
  const { walked, last, ids } = rows[0] as { walked: number; last: string | null; ids: string[] }
  return { workIds: ids.map(Number), next: walked < pageSize ? null : last }
}

/** The unfinished replays of a webhook. */
export async function listReplays(db: Db, webhookId: number): Promise<number[]> {
  // work_unfinished_key by its job: there are few replays.
  const { rows } = await db.execute(
    sql`SELECT id FROM website_worker.work
        WHERE job = 'replay-webhook' AND state IN ('owed', 'running', 'held') AND payload ->> 'webhookId' = ${String(webhookId)}`,
  )
  return rows.map((row) => Number(row.id))
}
