import { asc, eq, sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { disableDomain, enableDomain } from '../../src/db/domains.ts'
import { transact } from '../../src/db/client.ts'
import { noteProductChanges, type ProductChange } from '../../src/db/queries/sync/changes.ts'
import { events, productChanges, websiteWebhooks } from '../../src/db/schema/index.ts'
import { announceProductsProcessor } from '../../src/processors/announce-products.ts'
import { inventoryStream } from '../../src/processors/sync/inventory.ts'
import { announceProducts } from '../../src/queues/announce-products.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { createStack } from '../fixtures/stack.ts'
import { createWebhook, workOf } from '../db/main-app.ts'
import { createShop, level, type Shop } from '../db/sync/stock-fixtures.ts'

let database: TestDatabase
let shop: Shop
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  shop = await createShop(database.db)
})
afterEach(async () => {
  await enableDomain(database.db, 'webhooks')
})

const note = (...changes: ProductChange[]) =>
  transact(database.db, (tx) => noteProductChanges(tx, { siteId: shop.siteId, isFirst: false }, changes))

/** Makes what is noted older. */
const age = (ms: number, productId?: number) =>
  database.db.execute(
    sql`UPDATE website_worker.product_changes SET at = at - ${ms} * interval '1 ms'
        WHERE site_id = ${shop.siteId} AND ${productId === undefined ? sql`true` : sql`product_id = ${productId}`}`,
  )

const run = (signal = new AbortController().signal) =>
  announceProductsProcessor.process(
    { siteId: shop.siteId },
    { db: database.db },
    {
      workId: 1,
      attempt: 1,
      trigger: 'sync',
      lane: null,
      loaded: undefined,
      log: pino({ level: 'silent' }),
      signal,
      progress: () => {},
    },
  )

const waiting = async () =>
  (await database.db.select().from(productChanges).where(eq(productChanges.siteId, shop.siteId))).length

async function told(siteId = shop.siteId, db = database.db): Promise<object[]> {
  const rows = await db.select().from(events).where(eq(events.siteId, siteId)).orderBy(asc(events.id))
  return rows.map(({ event, body }) => ({ event, ...JSON.parse(body!).data }))
}

const deliveries = async () =>
  (await workOf(database.db, 'deliver-webhook')).filter((item) => item.siteId === shop.siteId)

describe('changes of products', () => {
  test('become one event each, of all that changed', async () => {
    await createWebhook(database.db, shop.siteId, { event: 'product.updated' })
    const [a, b] = [await shop.product({ sku: 'A' }), await shop.product({ sku: 'B "2"' })]
    await note({ productId: a.id, changed: ['price', 'name'] }, { productId: b.id, changed: ['inventory'] })
    await note({ productId: a.id, changed: ['inventory', 'price'] })
    await age(2_000)
    expect(await run()).toEqual({ kind: 'done', result: { events: 2 } })
    expect(await told()).toHaveLength(2)
    expect(await told()).toEqual(
      expect.arrayContaining([
        { event: 'product.updated', productId: a.id, sku: 'A', changed: ['inventory', 'name', 'price'] },
        { event: 'product.updated', productId: b.id, sku: 'B "2"', changed: ['inventory'] },
      ]),
    )
    expect(await deliveries()).toMatchObject([
      { state: 'owed', rungAt: null },
      { state: 'owed', rungAt: null },
    ])
    expect(await waiting()).toBe(0)
    expect(await run()).toEqual({ kind: 'done', result: { events: 0 } })
    expect(await told()).toHaveLength(2)
  })

  test('wait for more of the same product; those that have waited go out', async () => {
    await createWebhook(database.db, shop.siteId, { event: 'product.updated' })
    const [a, b] = [await shop.product({ sku: 'A' }), await shop.product({ sku: 'B' })]
    await note({ productId: a.id, changed: ['price'] }, { productId: b.id, changed: ['price'] })
    await age(60_000, b.id)
    await age(-60_000, a.id)
    const outcome = await run()
    expect(outcome).toMatchObject({ kind: 'postponed' })
    const { inMs } = outcome as { inMs: number }
    expect(inMs).toBeGreaterThan(60_000)
    expect(inMs).toBeLessThanOrEqual(62_000)
    expect(await told()).toMatchObject([{ sku: 'B' }])
    await note({ productId: a.id, changed: ['inventory'] })
    await age(120_000, a.id)
    expect(await run()).toEqual({ kind: 'done', result: { events: 1 } })
    expect((await told()).at(-1)).toMatchObject({ sku: 'A', changed: ['inventory', 'price'] })
  })

  test('of products that are deleted, and where nobody listens, make no events', async () => {
    const hook = await createWebhook(database.db, shop.siteId, { event: 'product.updated' })
    await createWebhook(database.db, shop.siteId, { event: 'order.created' })
    const deleted = await shop.product({ sku: 'A', deletedAt: new Date() })
    await note({ productId: deleted.id, changed: ['price'] }, { productId: 2_000_000_000, changed: ['price'] })
    await age(2_000)
    expect(await run()).toEqual({ kind: 'done', result: { events: 0 } })
    await database.db.update(websiteWebhooks).set({ isActive: false }).where(eq(websiteWebhooks.id, hook))
    const { id } = await shop.product({ sku: 'B' })
    await note({ productId: id, changed: ['price'] })
    await age(2_000)
    expect(await run()).toEqual({ kind: 'done', result: { events: 0 } })
    expect([await waiting(), await told()]).toEqual([0, []])
  })

  test('are kept for a webhook that the worker disabled, and where webhooks are off', async () => {
    const hook = await createWebhook(database.db, shop.siteId, { event: 'product.updated', isActive: false })
    await database.db.execute(
      sql`INSERT INTO website_worker.webhook_health (webhook_id, disabled_at) VALUES (${hook}, now())`,
    )
    const { id } = await shop.product({ sku: 'A' })
    await note({ productId: id, changed: ['price'] })
    await age(2_000)
    await run()
    await database.db.update(websiteWebhooks).set({ isActive: true }).where(eq(websiteWebhooks.id, hook))
    await disableDomain(database.db, 'webhooks')
    await note({ productId: id, changed: ['name'] })
    await age(2_000)
    await run()
    expect(await deliveries()).toMatchObject([
      { state: 'held', reason: 'webhook disabled' },
      { state: 'held', reason: 'domain off' },
    ])
  })

  test('of thousands of products are told of once, also by two runs at the same time', async () => {
    await createWebhook(database.db, shop.siteId, { event: 'product.updated' })
    const { rows } = await database.db.execute(
      sql`INSERT INTO website_products (site_id, sku, name, price)
          SELECT ${shop.siteId}, 'S' || i, 'P', 1 FROM generate_series(1, 1200) i RETURNING id`,
    )
    const changes = rows.map((row) => ({ productId: Number(row['id']), changed: ['price'] }))
    await note(...changes)
    await note(...changes)
    await age(2_000)
    const outcomes = await Promise.all([run(), run()])
    expect(outcomes.map((outcome) => (outcome as { result: { events: number } }).result.events)).toSatisfy(
      (counts: number[]) => counts.reduce((sum, count) => sum + count, 0) === 1_200,
    )
    expect(new Set((await told()).map((event) => (event as { productId: number }).productId)).size).toBe(1_200)
    expect(await told()).toHaveLength(1_200)
    expect(await deliveries()).toHaveLength(1_200)
  })

  test('wait while someone has locked the webhook, or the event can’t be made; none is lost', async () => {
    const hook = await createWebhook(database.db, shop.siteId, { event: 'product.updated' })
    const { id } = await shop.product({ sku: 'A' })
    await note({ productId: id, changed: ['price'] })
    await age(2_000)
    await database.db
      .transaction(async (tx) => {
        await tx.execute(sql`SELECT FROM website_webhooks WHERE id = ${hook} FOR UPDATE`)
        expect(await run()).toEqual({ kind: 'postponed', inMs: 1_000 })
        tx.rollback()
      })
      .catch(() => {})
    await database.db.execute(
      sql`ALTER TABLE website_webhook_deliveries ADD CONSTRAINT none CHECK (webhook_id <> ${sql.raw(String(hook))})`,
    )
    await expect(run()).rejects.toThrow()
    await database.db.execute(sql`ALTER TABLE website_webhook_deliveries DROP CONSTRAINT none`)
    expect([await waiting(), await told()]).toEqual([1, []])
    const stopped = AbortSignal.abort()
    expect(await run(stopped)).toMatchObject({ kind: 'retry' })
    expect(await run()).toEqual({ kind: 'done', result: { events: 1 } })
  })
})

test.each(['redis', 'postgres'] as const)(
  'a sync is told of once, also when the queue was wiped (%s)',
  async (backend) => {
    const deps: Record<string, unknown> = {}
    const stack = await createStack({
      backend,
      jobs: [{ definition: announceProducts, processor: announceProductsProcessor as never }],
      deps,
    })
    deps.db = stack.db
    const there = await createShop(stack.db)
    await createWebhook(stack.db, there.siteId, { event: 'product.updated' })
    const { id } = await there.product({ sku: 'A', variants: [{ sku: 'A', stock: 1 }] })
    stack.dispatcher.start()
    await there.sync(inventoryStream, [[level('A', 5)]])
    await vi.waitFor(async () => expect((await workOf(stack.db, 'announce-products'))[0]?.rungAt).toBeTruthy(), {
      timeout: 5_000,
    })
    await stack.backend.queue('announce-products').obliterate({ force: true })
    await stack.db.execute(sql`UPDATE website_worker.epoch SET queue_id = 'another'`)
    stack.work()
    await vi.waitFor(
      async () => {
        expect((await workOf(stack.db, 'announce-products')).map((item) => item.state)).toEqual(['done'])
        expect(await told(there.siteId, stack.db)).toEqual([
          { event: 'product.updated', productId: id, sku: 'A', changed: ['inventory'] },
        ])
      },
      { timeout: 20_000, interval: 50 },
    )
    await stack.close()
  },
)
