import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { transact } from '../../../src/db/client.ts'
import { forgetStockVersions, keepLevels } from '../../../src/db/queries/sync/levels.ts'
import { lockCatalog } from '../../../src/db/queries/sync/site-lock.ts'
import { applyStockTo, lockStock, writeStock } from '../../../src/db/queries/sync/stock.ts'
import { domains, erpIds, erpStock, retiredVariants, syncQuarantine } from '../../../src/db/schema/index.ts'
import { applyInChunks } from '../../../src/processors/sync/chunks.ts'
import type { ErpReject } from '../../../src/erp.ts'
import { inventoryStream } from '../../../src/processors/sync/inventory.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { explaining, someoneWaits } from '../../fixtures/plans.ts'
import { workOf } from '../main-app.ts'
import { createShop, level, type Shop } from './stock-fixtures.ts'

let database: TestDatabase
let shop: Shop
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  shop = await createShop(database.db)
})

const one = (sku: string, stock: number | null = 0) => shop.product({ sku, variants: [{ sku, stock }] })

/** What is owed to tell of the site's changes. */
const owed = async () =>
  (await workOf(database.db, 'announce-products')).filter((item) => item.key === String(shop.siteId))

describe('a level', () => {
  test('is what every variant of its SKU shows, exactly, below zero too', async () => {
    const tee = await shop.product({
      sku: 'TEE',
      variants: [
        { sku: 'TEE-S', stock: 9 },
        { sku: 'TEE-M', stock: 9 },
      ],
    })
    const set = await shop.product({ sku: 'SET', variants: [{ sku: 'TEE-M', stock: null }] })
    const counts = await shop.sync(inventoryStream, [[level('TEE-S', -2)], [level('TEE-M', 2_147_483_647)]])
    expect(await shop.stock()).toEqual({ 'TEE-S': -2, 'TEE-M': [2_147_483_647, 2_147_483_647] })
    expect(counts).toMatchObject({ updated: 2, unchanged: 0, stale: 0, unknown: 0 })
    expect(await shop.changes()).toEqual({ [tee.id]: ['inventory'], [set.id]: ['inventory'] })
  })

  test('that says nothing new writes nothing', async () => {
    await one('A', 1)
    const pages = [[level('A', 5), level('GHOST', 1)]]
    await shop.sync(inventoryStream, pages)
    const before = await shop.writers()
    await database.db.execute(sql`DELETE FROM website_worker.product_changes`)
    expect(await shop.sync(inventoryStream, pages)).toMatchObject({ updated: 0, unchanged: 1, stale: 0, unknown: 1 })
    expect(await shop.writers()).toEqual(before)
    expect(await shop.changes()).toEqual({})
  })

  test('older than what is known is left alone; of the same version the later word counts', async () => {
    await one('A')
    await shop.sync(inventoryStream, [[level('A', 7, '1767225600000000001')]])
    expect(await shop.sync(inventoryStream, [[level('A', 3, '1767225600000000000')]])).toMatchObject({
      stale: 1,
      updated: 0,
    })
    expect(await shop.stock()).toEqual({ A: 7 })
    await shop.sync(inventoryStream, [[level('A', 4, '1767225600000000001')]])
    expect(await shop.stock()).toEqual({ A: 4 })
  })

  test('that comes twice in a run counts once: the highest version, of these the last', async () => {
    const { id } = await one('A', 0)
    await one('B', 0)
    const pages = [[level('A', 1, 5), level('B', 1, 2)], [level('A', 2, 4), level('B', 2, 2)], [level('A', 3, 3)]]
    expect(await shop.sync(inventoryStream, pages)).toMatchObject({ updated: 2, unchanged: 0, stale: 0, unknown: 0 })
    expect(await shop.stock()).toEqual({ A: 1, B: 2 })
    expect((await shop.changes())[id]).toEqual(['inventory'])
    expect(await shop.sync(inventoryStream, pages)).toMatchObject({ updated: 0, unchanged: 2, stale: 0, unknown: 0 })
  })

  test('of an ERP that was restored counts whatever its version, once versions are forgotten', async () => {
    await one('A')
    await shop.sync(inventoryStream, [[level('A', 7, 100)]])
    await transact(database.db, (tx) => forgetStockVersions(tx, shop.siteId))
    await shop.sync(inventoryStream, [[level('A', 3, 1)]])
    expect(await shop.stock()).toEqual({ A: 3 })
  })

  test('of an unknown SKU waits for its variant', async () => {
    expect(await shop.sync(inventoryStream, [[level('NEW', 12)]])).toMatchObject({ unknown: 1, updated: 0 })
    const { variantIds } = await one('NEW', 0)
    const run = await shop.staged(inventoryStream, [])
    expect(await transact(database.db, (tx) => applyStockTo(tx, run, variantIds))).toBe(1)
    expect(await shop.stock()).toEqual({ NEW: 12 })
    expect(await shop.changes()).toEqual({})
  })

  test('says nothing about other sites, deleted products, products of no site and retired variants', async () => {
    const other = await createShop(database.db)
    await other.product({ sku: 'A', variants: [{ sku: 'A', stock: 1 }] })
    await shop.product({ sku: 'A', deletedAt: new Date(), variants: [{ sku: 'A', stock: 1 }] })
    const nowhere = await shop.product({ sku: 'A', siteId: null, variants: [{ sku: 'A', stock: 1 }] })
    const { variantIds } = await shop.product({ sku: 'B', variants: [{ sku: 'B-OLD', stock: 0 }] })
    await database.db.insert(retiredVariants).values({ variantId: variantIds[0]! })
    const counts = await shop.sync(inventoryStream, [[level('A', 5), level('B-OLD', 5)]])
    expect(counts).toMatchObject({ updated: 0, unchanged: 1, stale: 0, unknown: 1 })
    expect([await shop.stock(), await other.stock()]).toEqual([{ A: 1, 'B-OLD': 0 }, { A: 1 }])
    const { rows } = await database.db.execute(
      sql`SELECT inventory_quantity AS n FROM website_product_variants WHERE id = ${nowhere.variantIds[0]}`,
    )
    expect(rows).toEqual([{ n: 1 }])
  })

  test('of a first import is told to nobody; what an unchanged level heals is', async () => {
    const { id, variantIds } = await one('A', 0)
    await shop.sync(inventoryStream, [[level('A', 5)]], { isFirst: true })
    expect(await shop.changes()).toEqual({})
    expect(await owed()).toEqual([])
    await database.db.execute(
      sql`UPDATE website_product_variants SET inventory_quantity = 99 WHERE id = ${variantIds[0]}`,
    )
    expect(await shop.sync(inventoryStream, [[level('A', 5)]])).toMatchObject({ updated: 1, unchanged: 0 })
    expect(await shop.stock()).toEqual({ A: 5 })
    expect(await shop.changes()).toEqual({ [id]: ['inventory'] })
    expect(await owed()).toMatchObject([{ siteId: shop.siteId, state: 'owed' }])
  })
})

test('a level that can’t be taken is quarantined by itself, until the ERP sends it right', async () => {
  await one('A', 1)
  await one('B', 1)
  const bad: ErpReject = {
    entity: 'variant',
    erpId: null,
    sku: 'A',
    reason: 'quantity: "many" is no whole number',
    snapshot: { sku: 'A', quantity: 'many' },
  }
  const open = () =>
    database.db
      .select()
      .from(syncQuarantine)
      .where(sql`site_id = ${shop.siteId} AND resolved_at IS NULL`)
  expect(await shop.sync(inventoryStream, [[level('B', 5)]], {}, [bad])).toMatchObject({ updated: 1, quarantined: 1 })
  expect(await shop.stock()).toEqual({ A: 1, B: 5 })
  expect(await open()).toMatchObject([{ type: 'inventory', entity: 'variant', sku: 'A', reason: bad.reason }])
  expect(await shop.sync(inventoryStream, [[level('B', 5)]], {}, [bad])).toMatchObject({ quarantined: 0, resolved: 0 })
  const incremental = { mode: 'incremental' } as const
  expect(await shop.sync(inventoryStream, [[level('B', 6)]], incremental)).toMatchObject({ resolved: 0 })
  expect(await shop.sync(inventoryStream, [[level('A', 6)]], incremental)).toMatchObject({ updated: 1, resolved: 1 })
  expect(await open()).toEqual([])
})

describe('orders that the ERP is yet to hear of', () => {
  const pushing = { pushesOrders: true }

  test('take their units off its stock, by variant and else by SKU, from all that sell the SKU', async () => {
    const { variantIds } = await one('A', 0)
    await shop.product({ sku: 'SET', variants: [{ sku: 'A', stock: 0 }] })
    await one('B', 0)
    // The variant was called otherwise when it was ordered.
    await shop.order([{ sku: 'A-OLD', variantId: variantIds[0]!, quantity: 2 }])
    await shop.order(
      [
        { sku: 'A', quantity: 1 },
        { sku: 'B', quantity: 7 },
      ],
      { status: null },
    )
    await shop.sync(inventoryStream, [[level('A', 10), level('B', 5)]], pushing)
    expect(await shop.stock()).toEqual({ A: [7, 7], B: -2 })
    await shop.sync(inventoryStream, [[level('A', 10), level('B', 5)]])
    expect(await shop.stock()).toEqual({ A: [10, 10], B: 5 })
  })

  test('are those without an id or a word of the ERP, neither cancelled nor refunded, of this site', async () => {
    await one('A', 0)
    const item = [{ sku: 'A', quantity: 1 }]
    for (const values of [
      { erpOrderId: 5 },
      { erpOrderRef: 'SO5' },
      { status: 'cancelled' },
      { status: 'refunded' },
    ] as const)
      await shop.order(item, values)
    const pushed = await shop.order(item)
    await database.db.insert(erpIds).values({ siteId: shop.siteId, entity: 'order', erpId: 'SO-17/2', rowId: pushed })
    await (await createShop(database.db)).order(item)
    await shop.order(item, { siteId: null })
    await shop.order([{ sku: 'A', quantity: 3 }], { status: 'shipped' })
    await shop.sync(inventoryStream, [[level('A', 10)]], pushing)
    expect(await shop.stock()).toEqual({ A: 7 })
  })

  test("don't count from before the domain was enabled, at the site or at all", async () => {
    await one('A', 0)
    const [first, second] = [
      await shop.order([{ sku: 'A', quantity: 1 }]),
      await shop.order([{ sku: 'A', quantity: 10 }]),
    ]
    await shop.order([{ sku: 'A', quantity: 100 }])
    const enabledAt = (siteId: number, watermark: number) =>
      database.db
        .insert(domains)
        .values({ domain: 'erp', siteId, enabled: true, watermark })
        .onConflictDoUpdate({ target: [domains.domain, domains.siteId], set: { watermark } })
    await enabledAt(0, first)
    await shop.sync(inventoryStream, [[level('A', 1_000)]], pushing)
    expect(await shop.stock()).toEqual({ A: 890 })
    await enabledAt(shop.siteId, second)
    await shop.sync(inventoryStream, [[level('A', 1_000)]], pushing)
    expect(await shop.stock()).toEqual({ A: 900 })
    await enabledAt(0, 0)
  })
})

describe('the judgement', () => {
  test('counts products that are in stock now and would no longer be in any variant', async () => {
    await shop.product({
      sku: 'A',
      variants: [
        { sku: 'A1', stock: 3 },
        { sku: 'A2', stock: 0 },
      ],
    })
    await shop.product({
      sku: 'B',
      variants: [
        { sku: 'B1', stock: 3 },
        { sku: 'B2', stock: 4 },
      ],
    })
    await shop.product({ sku: 'C', variants: [{ sku: 'C1', stock: 0 }] })
    await shop.product({ sku: 'D', variants: [{ sku: 'D1', stock: 1 }] })
    await shop.product({ sku: 'E', deletedAt: new Date(), variants: [{ sku: 'E1', stock: 1 }] })
    const levels = ['A1', 'A2', 'B1', 'C1', 'E1'].map((sku) => level(sku, 0, 2))
    expect(await shop.judge(inventoryStream, [[...levels, level('D1', -1, 2)]])).toEqual({
      products: 4,
      losingStock: 2,
      losingPrice: 0,
      deactivated: 0,
    })
    expect(await shop.stock()).toMatchObject({ A1: 3, D1: 1 })
  })

  test('knows what is stale, what comes twice and what is reserved', async () => {
    await shop.sync(inventoryStream, [[level('A', 3, 5)]])
    for (const sku of ['A', 'B', 'C']) await one(sku, 3)
    await shop.order([{ sku: 'C', quantity: 5 }])
    const pages = [
      [level('A', 0, 4), level('B', 0, 1)],
      [level('B', 8, 2), level('C', 5, 1)],
    ]
    expect(await shop.judge(inventoryStream, pages)).toMatchObject({ losingStock: 0 })
    expect(await shop.judge(inventoryStream, pages, { pushesOrders: true })).toMatchObject({ losingStock: 1 })
  })
})

describe('an apply', () => {
  /** Products 1 to n with one variant each, 0 in stock, at each of these sites. */
  async function fill(n: number, ...sites: Shop[]) {
    for (const { siteId } of sites)
      await database.db.execute(
        sql`WITH p AS (
              INSERT INTO website_products (site_id, sku, name, price)
              SELECT ${siteId}, 'SKU-' || i, 'P', 1 FROM generate_series(1, ${n}::int) i RETURNING id, sku)
            INSERT INTO website_product_variants (product_id, sku) SELECT id, sku FROM p`,
      )
  }
  const levels = (n: number, version = 1) =>
    Array.from({ length: n }, (_, i) => level(`SKU-${i + 1}`, i + version, version))

  test('that is broken off goes on where it was, and ends exact', async () => {
    await fill(6_000, shop)
    const run = await shop.staged(inventoryStream, [levels(6_000)])
    const stopping = new AbortController()
    const progress: number[] = []
    const stopped = inventoryStream.apply(database.db, run, {
      signal: stopping.signal,
      progress(done, total) {
        progress.push(done / total)
        stopping.abort(new Error('stopped'))
      },
    })
    await expect(stopped).rejects.toThrow('stopped')
    expect(progress).toEqual([5 / 6])
    const token = crypto.randomUUID()
    const { rows } = await database.db.execute(
      sql`UPDATE website_worker.sync_runs SET token = ${token}::uuid WHERE id = ${run.runId} RETURNING applied_through`,
    )
    expect(rows).toEqual([{ applied_through: 5_000 }])
    const control = { signal: new AbortController().signal, progress: () => {} }
    await expect(inventoryStream.apply(database.db, run, control)).rejects.toThrow('taken over')
    const rest = await inventoryStream.apply(database.db, { ...run, token, appliedThrough: 5_000 }, control)
    expect(rest).toMatchObject({ updated: 1_000, unchanged: 0, stale: 0, unknown: 0 })
    expect(await shop.audit(inventoryStream, [levels(6_000)])).toMatchObject({ compared: 6_000, differing: 0 })
  })

  test('waits for no lock while it holds others, and misses nobody who has one', async () => {
    const { variantIds } = await one('A', 5)
    await one('B', 5)
    const holder = await database.pool.connect()
    await holder.query('BEGIN')
    await holder.query(
      'UPDATE website_product_variants SET inventory_quantity = inventory_quantity - 1 WHERE id = $1',
      [variantIds[0]],
    )
    const syncing = shop.sync(inventoryStream, [[level('A', 20), level('B', 20)]], { pushesOrders: true })
    // What is free is written and let go of again, so that who holds A may take B as well.
    await expect.poll(() => shop.stock()).toEqual({ A: 5, B: 20 })
    await holder.query(
      "UPDATE website_product_variants SET inventory_quantity = inventory_quantity - 1 WHERE sku = 'B'",
    )
    await holder.query(
      `WITH o AS (INSERT INTO website_orders (site_id, order_number, customer_email, total, shipping_address, billing_address)
         VALUES ($1, 'N', 'ann@example.com', 1, '{}', '{}') RETURNING id)
       INSERT INTO website_order_items (order_id, sku, name, quantity, price, subtotal, total)
       SELECT o.id, sku, sku, 1, 1, 1, 1 FROM o, unnest(ARRAY['A', 'B']) sku`,
      [shop.siteId],
    )
    await holder.query('COMMIT')
    holder.release()
    expect(await syncing).toMatchObject({ updated: 2, unchanged: 0, stale: 0, unknown: 0 })
    expect(await shop.stock()).toEqual({ A: 19, B: 19 })
  })

  test('and a variant that is being made at the same moment don’t miss each other', async () => {
    await shop.sync(inventoryStream, [[level('NEW', 5, 1)]])
    const run = await shop.staged(inventoryStream, [])
    let syncing: Promise<unknown> | undefined
    await transact(database.db, async (tx) => {
      await lockCatalog(tx, run)
      const { variantIds } = await (
        await createShop(tx as never, shop.siteId)
      ).product({
        sku: 'NEW',
        variants: [{ sku: 'NEW' }],
      })
      expect(await applyStockTo(tx, run, variantIds)).toBe(1)
      syncing = shop.sync(inventoryStream, [[level('NEW', 6, 2)]])
      await someoneWaits(database.db)
    })
    expect(await syncing).toMatchObject({ updated: 1, unknown: 0 })
    expect(await shop.stock()).toEqual({ NEW: 6 })
  })

  test("that the shop's own database refuses keeps no other back", async () => {
    for (const sku of ['A', 'B', 'C']) await one(sku, 1)
    await database.db.execute(
      sql`ALTER TABLE website_product_variants ADD CONSTRAINT sold_out CHECK (inventory_quantity >= 0) NOT VALID`,
    )
    const page = [level('A', 4), level('B', -2), level('C', 5)]
    expect(await shop.sync(inventoryStream, [page])).toMatchObject({ updated: 2, refused: 1, unchanged: 0 })
    expect(await shop.stock()).toEqual({ A: 4, B: 1, C: 5 })
    expect(Object.keys(await shop.changes())).toHaveLength(2)
    await database.db.execute(sql`ALTER TABLE website_product_variants DROP CONSTRAINT sold_out`)
    expect(await shop.sync(inventoryStream, [page])).toMatchObject({ updated: 1, unchanged: 2 })
    expect(await shop.stock()).toEqual({ A: 4, B: -2, C: 5 })
  })

  test('leaves what stays locked for later, from the same range on', async () => {
    const run = await shop.staged(inventoryStream, [levels(10)])
    const tries: number[] = []
    const applying = applyInChunks(
      database.db,
      run,
      { signal: new AbortController().signal, progress: () => {} },
      async (_tx, { through }) => {
        tries.push(through)
        return { kept: { skus: 10, stale: 0 }, sold: 10, written: new Set(), refused: 0, busy: 3 }
      },
      [1, 1],
    )
    await expect(applying).rejects.toThrow(`3 rows of site ${shop.siteId} stay locked`)
    expect(tries).toEqual([10, 10, 10])
    const { rows } = await database.db.execute(
      sql`SELECT applied_through FROM website_worker.sync_runs WHERE id = ${run.runId}`,
    )
    expect(rows).toEqual([{ applied_through: 0 }])
  })

  test('finds its rows by index, also while nothing is known of tables that are being filled', async () => {
    await fill(5_000, shop, await createShop(database.db))
    for (const isAnalyzed of [false, true]) {
      if (isAnalyzed) await database.db.execute(sql`ANALYZE website_products, website_product_variants`)
      const run = await shop.staged(inventoryStream, [levels(600, isAnalyzed ? 2 : 1)], { pushesOrders: true })
      const plans = await transact(database.db, async (tx) => {
        const { db, plans } = explaining(tx as never)
        const range = { after: 0, through: 600 }
        expect(await keepLevels(db as never, run, range)).toEqual({ skus: 600, stale: 0 })
        const { locked } = await lockStock(db as never, run, range)
        expect(await writeStock(db as never, run, locked)).toHaveLength(600)
        return plans
      })
      expect(plans).toHaveLength(3)
      // The last one knows which rows it writes, and may read a small table whole.
      expect(plans.slice(0, 2).join('\n')).not.toMatch(/Seq Scan on (website_product|erp_stock|website_order)/)
      expect(plans[1]).toMatch(/idx_website_orders_unpushed/)
      // Never all of a site for each SKU.
      expect(plans.join('\n')).not.toMatch(/Index Cond: \(+site_id = \d+\)$/m)
    }
  })
})

test('what the ERP says is kept by site and SKU', async () => {
  await shop.sync(inventoryStream, [[level('A', 4, 9)]])
  expect(
    await database.db
      .select()
      .from(erpStock)
      .where(sql`site_id = ${shop.siteId}`),
  ).toEqual([{ siteId: shop.siteId, sku: 'A', quantity: 4, version: '9' }])
})
