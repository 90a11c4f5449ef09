import { sql } from 'drizzle-orm'
import pino from 'pino'
import { createBreaker } from '../../src/clients/breaker.ts'
import { createGate } from '../../src/clients/gate.ts'
import { createGuard } from '../../src/clients/guard.ts'
import { createSender, type Sender } from '../../src/clients/http-sender.ts'
import type { LoadedDelivery } from '../../src/db/queries/deliver.ts'
import {
  events,
  websiteSites,
  websiteWebhookDeliveries,
  websiteWebhooks,
  webhookHealth,
} from '../../src/db/schema/index.ts'
import type { Outcome, RunContext, SettledRun } from '../../src/processors/contract.ts'
import {
  deliverWebhookProcessor as processor,
  type DeliverWebhookDeps,
  type DeliveryRecord,
} from '../../src/processors/deliver-webhook.ts'
import type { DeliverWebhookPayload } from '../../src/queues/deliver-webhook.ts'
import { opened } from '../fixtures/open-fixtures.ts'
import { createTestDatabase } from '../fixtures/database.ts'

export const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
export const body = '{"type":"order.created","timestamp":"2025-03-01T12:00:00.000Z","siteId":1,"data":{"name":"Zoë"}}'

type Webhook = typeof websiteWebhooks.$inferInsert
type RunOptions = { trigger?: string; attempt?: number; lane?: string; outOfAttempts?: boolean } & Partial<
  Omit<DeliverWebhookDeps, 'sender'>
>

/** A database with one site, and hands to put webhooks and deliveries in and run them. */
export async function webhookBench() {
  const database = await createTestDatabase()
  const { db } = database
  const sender: Sender = createSender({ guard: createGuard({ allowCidrs: ['127.0.0.1/32'] }), timeoutMs: 5_000 })
  // Nothing is parked for being slow: the machine may be.
  const gate = createGate({ capacity: 100, patienceMs: 60_000 })
  const breaker = createBreaker()
  const log = pino({ level: 'silent' })
  const closed = opened('sender')
  const [site] = await db.insert(websiteSites).values({ name: 'Shop', domain: 'shop.test' }).returning()
  const siteId = site?.id ?? 0
  let count = 0

  async function webhook(values: Partial<Webhook> & { targetUrl: string }): Promise<number> {
    const [row] = await db
      .insert(websiteWebhooks)
      .values({ siteId, name: 'Orders', event: 'order.created', secret, ...values })
      .returning()
    return row?.id ?? 0
  }

  async function delivery(webhookId: number, event: { body?: string | null; stored?: boolean } = {}) {
    const eventId = `evt_${++count}`
    if (event.stored !== false) {
      await db.insert(events).values({
        siteId,
        id: eventId,
        event: 'order.created',
        body: event.body === undefined ? body : event.body,
        hash: 'h',
      })
    }
    const [row] = await db.insert(websiteWebhookDeliveries).values({ webhookId, eventId, attempts: 0 }).returning()
    return { deliveryId: row?.id ?? 0, eventId }
  }

  async function attempt(payload: DeliverWebhookPayload, loaded: LoadedDelivery | undefined, options: RunOptions = {}) {
    const { trigger = 'event', attempt: number = 1 } = options
    const context: RunContext<LoadedDelivery | undefined> = {
      workId: payload.deliveryId,
      attempt: number,
      trigger,
      lane: options.lane ?? null,
      loaded,
      log,
      signal: new AbortController().signal,
      progress: () => {},
    }
    return processor.process(payload, { gate, breaker, ...options, sender }, context)
  }

  function settled(payload: DeliverWebhookPayload, outcome: Outcome<DeliveryRecord>, options: RunOptions = {}) {
    if (!outcome.record) return []
    const failed = outcome.kind === 'retry' && options.outOfAttempts
    const run: SettledRun<DeliverWebhookPayload, DeliveryRecord> = {
      workId: payload.deliveryId,
      siteId,
      payload,
      attempt: options.attempt ?? 1,
      trigger: options.trigger ?? 'event',
      outcome: failed ? 'failed' : outcome.kind,
      nextAt: outcome.kind === 'retry' && !failed ? (outcome.at ?? new Date('2025-03-01T12:05:00.700Z')) : null,
      record: outcome.record,
    }
    return [run]
  }

  /** What the worker does with one ring: load, process, settle. */
  async function run(deliveryId: number, options: RunOptions = {}): Promise<Outcome<DeliveryRecord>> {
    const [outcome] = await runAll([deliveryId], options)
    if (!outcome) throw new Error('no outcome')
    return outcome
  }

  async function runAll(deliveryIds: readonly number[], options: RunOptions = {}): Promise<Outcome<DeliveryRecord>[]> {
    const items = deliveryIds.map((deliveryId) => ({ workId: deliveryId, payload: { deliveryId } }))
    const loaded = await processor.load?.(db, items)
    const outcomes = await Promise.all(
      items.map(({ workId, payload }) => attempt(payload, loaded?.get(workId), options)),
    )
    const runs = outcomes.flatMap((outcome, index) =>
      settled(items[index]?.payload ?? { deliveryId: 0 }, outcome, options),
    )
    if (runs.length > 0) await db.transaction(async (tx) => processor.settle?.(tx, runs, log))
    return outcomes
  }

  const rows = async <Row>(query: ReturnType<typeof sql>) => (await db.execute(query)).rows as Row[]

  return {
    db,
    siteId,
    sender,
    webhook,
    delivery,
    run,
    runAll,
    async ledger(deliveryId: number) {
      const [row] = await db
        .select()
        .from(websiteWebhookDeliveries)
        .where(sql`id = ${deliveryId}`)
      return row
    },
    attempts: (deliveryId: number) =>
      rows<{ attempt: number; status_code: number | null; error: string | null; trigger: string; duration_ms: number }>(
        sql`SELECT * FROM website_worker.webhook_attempts WHERE delivery_id = ${deliveryId} ORDER BY id`,
      ),
    async health(webhookId: number) {
      const [row] = await db
        .select()
        .from(webhookHealth)
        .where(sql`webhook_id = ${webhookId}`)
      return row
    },
    rows,
    async close() {
      await sender.close()
      closed()
      await database.drop()
    },
  }
}

export type WebhookBench = Awaited<ReturnType<typeof webhookBench>>
