import { eq, sql } from 'drizzle-orm'
import { createBreaker } from '../../src/clients/breaker.ts'
import { createGate } from '../../src/clients/gate.ts'
import { createGuard } from '../../src/clients/guard.ts'
import { createSender } from '../../src/clients/http-sender.ts'
import { findWorkItem } from '../../src/db/queries/jobs.ts'
import { websiteWebhooks, webhookReplays, work } from '../../src/db/schema/index.ts'
import { askPing, askReplay } from '../../src/http/webhook-actions.ts'
import { processors } from '../../src/processors/index.ts'
import { catalog, type JobName } from '../../src/queues/index.ts'
import { createSite, createWebhook } from '../db/main-app.ts'
import { opened } from '../fixtures/open-fixtures.ts'
import { createStack } from '../fixtures/stack.ts'

/** How a delivery stands; `at`: when it was made. */
export interface Standing {
  state?: 'owed' | 'held' | 'done' | 'failed' | 'cancelled' | 'pruned'
  at?: string
  delivered?: boolean
  bodiless?: boolean
  /** Why it is held. */
  reason?: string
}

export const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

/** The jobs of webhooks on real services, with a webhook whose ledger is filled as a test wants. */
export async function createReplayStack(targetUrl: string, jobs: readonly JobName[]) {
  const sender = createSender({ guard: createGuard({ allowCidrs: ['127.0.0.1/32'] }), timeoutMs: 5_000 })
  const closed = opened('sender')
  const deps: Record<string, unknown> = {
    sender,
    gate: createGate({ capacity: 100 }),
    breaker: createBreaker(),
    payloadsDays: 30,
  }
  const stack = await createStack({
    backend: 'redis',
    jobs: jobs.map((name) => ({ definition: catalog[name], processor: processors[name] as never })),
    deps,
  })
  const { db } = stack
  deps.db = db
  const siteId = await createSite(db)
  const webhookId = await createWebhook(db, siteId, { targetUrl, secret })
  const asks = { db, bell: stack.bell }

  return {
    ...stack,
    siteId,
    webhookId,
    /** `n` deliveries that stand alike; their ids. */
    async deliveries(n: number, standing: Standing = {}): Promise<number[]> {
      const { state = 'failed', at = '2026-03-01T12:00:00Z', delivered = false, bodiless = false } = standing
      const { rows } = await db.execute(sql`
        WITH event AS (
          INSERT INTO website_worker.events (site_id, id, event, body, hash)
          SELECT ${siteId}, gen_random_uuid()::text, 'order.created', CASE WHEN NOT ${bodiless} THEN '{"n":' || n || '}' END, 'h'
          FROM generate_series(1, ${n}::int) n RETURNING id)
        INSERT INTO website_webhook_deliveries (webhook_id, event_id, attempts, created_at, delivered_at)
        SELECT ${webhookId}, id, 10, ${at}::timestamptz AT TIME ZONE 'UTC',
          CASE WHEN ${delivered} THEN '2026-03-01 13:00:00'::timestamp END FROM event
        RETURNING id`)
      const ids = rows.map((row) => row.id as number)
      if (state !== 'pruned') {
        await db.execute(sql`
          INSERT INTO website_worker.work (job, key, site_id, payload, state, reason, attempts, next_at, finished_at)
          SELECT 'deliver-webhook', id::text, ${siteId}, jsonb_build_object('deliveryId', id), ${state},
            ${standing.reason ?? null}, 10, now() + interval '1 hour', CASE WHEN ${state} NOT IN ('owed', 'held') THEN now() END
          FROM unnest(${sql.param(ids)}::int[]) id`)
      }
      return ids
    },
    replay: async (status: 'failed' | 'held' | 'cancelled' | 'delivered' = 'failed') =>
      (await askReplay(asks, webhookId, { since: '2026-03-01T00:00:00Z', until: '2026-03-02T00:00:00Z', status }))
        .workId,
    ping: async () => (await askPing(asks, webhookId)).workId,
    job: async (workId: number, name: JobName = 'replay-webhook') => (await findWorkItem(db, name, workId))!,
    async progressOf(workId: number) {
      const [row] = await db.select().from(webhookReplays).where(eq(webhookReplays.workId, workId))
      return row
    },
    items: () =>
      db
        .select({
          key: work.key,
          state: work.state,
          generation: work.generation,
          trigger: work.trigger,
          lane: work.lane,
        })
        .from(work)
        .where(eq(work.job, 'deliver-webhook'))
        .orderBy(work.id),
    async ledger(id: number) {
      const { rows } = await db.execute(sql`SELECT * FROM website_webhook_deliveries WHERE id = ${id}`)
      return rows[0]!
    },
    setWebhook: (values: Partial<typeof websiteWebhooks.$inferInsert>) =>
      db.update(websiteWebhooks).set(values).where(eq(websiteWebhooks.id, webhookId)),
    async close() {
      await stack.close()
      await sender.close()
      closed()
    },
  }
}

export type ReplayStack = Awaited<ReturnType<typeof createReplayStack>>
