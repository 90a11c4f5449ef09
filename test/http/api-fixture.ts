import { sql } from 'drizzle-orm'
import type { InjectOptions } from 'fastify'
import { pino } from 'pino'
import { z } from 'zod'
import type { Db } from '../../src/db/client.ts'
import { registerJobs } from '../../src/db/queries/enqueue.ts'
import { websiteWebhooks } from '../../src/db/schema/integrations.ts'
import { websiteSites } from '../../src/db/schema/sites.ts'
import { createApp } from '../../src/http/app.ts'
import type { AppDeps } from '../../src/http/deps.ts'
import { defineJob } from '../../src/queues/define-job.ts'
import { deliverWebhook } from '../../src/queues/deliver-webhook.ts'
import type { Bell } from '../../src/work/bell.ts'
import type { Ring } from '../../src/work/transitions.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

const retry = { waitsMs: [0, 1_000] }
const worker = { concurrency: 1 }

/** A job as an issue to come will have it: about a row, with options. */
const syncProducts = defineJob({
  name: 'sync-products',
  domain: 'erp',
  schema: z.object({
    siteId: z.int32().positive(),
    mode: z.enum(['incremental', 'full']).optional(),
    skus: z.array(z.string()).max(100).optional(),
  }),
  key: ['siteId'],
  subject: { field: 'siteId', table: 'website_sites' },
  retry,
  worker,
})

const resetAll = defineJob({
  name: 'reset-all',
  domain: 'maintenance',
  schema: z.object({ name: z.string().min(1).max(50) }),
  key: ['name'],
  scope: 'ops',
  retry,
  worker,
})

export const catalog = [deliverWebhook, syncProducts, resetAll]

export const secrets = {
  both: 'both-scopes-0123456789',
  enqueue: 'only-enqueue-0123456789',
  ops: 'only-ops-0123456789abc',
}

const apiKeys: AppDeps['apiKeys'] = [
  { name: 'both', secret: secrets.both, scopes: ['enqueue', 'ops'] },
  { name: 'shop', secret: secrets.enqueue, scopes: ['enqueue'] },
  { name: 'on-call', secret: secrets.ops, scopes: ['ops'] },
]

export const withKey = (secret: string) => ({ authorization: `Bearer ${secret}` })

/** A bell that is heard by the test alone. */
function createRecordingBell(ready: () => boolean) {
  const rung: Ring[] = []
  const bell: Bell = {
    ready,
    ring: (rings) => void rung.push(...rings),
    ringNow: async (_, rings) => void rung.push(...rings),
    settled: async () => {},
  }
  return { bell, rung }
}

export interface ApiFixture extends TestDatabase {
  app: Awaited<ReturnType<typeof createApp>>
  rung: Ring[]
  /** Lanes in which something came to wait. */
  pulled: string[]
  /** What the app asks of its surroundings; tests change it. */
  state: { bellReady: boolean; queueReady: boolean; shuttingDown: boolean }
  /** With the key of both scopes, unless the headers have another. */
  send(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    url: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): ReturnType<typeof inject>
  close(): Promise<void>
}

const inject = (app: ApiFixture['app'], options: InjectOptions) => app.inject(options)

/** The API over a database of its own, or over the one given. */
export async function createApi(overrides: Partial<AppDeps> = {}): Promise<ApiFixture> {
  const database = await createTestDatabase()
  await registerJobs(database.db, catalog)
  const state = { bellReady: true, queueReady: true, shuttingDown: false }
  const { bell, rung } = createRecordingBell(() => state.bellReady)
  const pulled: string[] = []
  const app = await createApp({
    db: database.db,
    bell,
    pullLane: (lane) => pulled.push(lane),
    jobs: catalog,
    apiKeys,
    metrics: { contentType: 'text/plain; version=0.0.4; charset=utf-8', render: async () => 'up 1\n' },
    queueReady: () => state.queueReady,
    shuttingDown: () => state.shuttingDown,
    log: pino({ level: 'silent' }),
    version: '1.2.3',
    ...overrides,
  })
  return {
    ...database,
    app,
    rung,
    pulled,
    state,
    send: (method, url, body, headers) =>
      inject(app, {
        method,
        url,
        headers: {
          ...withKey(secrets.both),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined
          ? {}
          : { payload: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body) }),
      }),
    async close() {
      await app.close()
      await database.drop()
    },
  }
}

/** A site, with a webhook for each of some events. */
export async function addSite(db: Db, events: readonly (typeof websiteWebhooks.$inferInsert)['event'][] = []) {
  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'Shop', domain: `shop-${crypto.randomUUID()}.example` })
    .returning()
  const webhooks = []
  for (const event of events) {
    const [webhook] = await db
      .insert(websiteWebhooks)
      .values({
        siteId: site!.id,
        name: event,
        event,
        targetUrl: 'https://shop.example/hook?token=t',
        secret: 'whsec_AA',
      })
      .returning()
    webhooks.push(webhook!)
  }
  return { site: site!, webhooks }
}

/** How many rows an accepted request adds to. */
export async function countRows(db: Db): Promise<Record<string, number>> {
  const { rows } = await db.execute(sql`
    SELECT (SELECT count(*) FROM website_worker.events)::int AS events,
           (SELECT count(*) FROM public.website_webhook_deliveries)::int AS deliveries,
           (SELECT count(*) FROM website_worker.work)::int AS work,
           (SELECT count(*) FROM website_worker.idempotency_keys)::int AS keys,
           (SELECT count(*) FROM website_worker.domains)::int AS domains`)
  return rows[0] as Record<string, number>
}
