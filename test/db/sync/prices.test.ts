import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { transact } from '../../../src/db/client.ts'
import {
  applyPricesTo,
  forgetPriceVersions,
  keepPrices,
  lockPrices,
  writePrices,
} from '../../../src/db/queries/sync/prices.ts'
import { syncQuarantine } from '../../../src/db/schema/index.ts'
import type { ErpReject } from '../../../src/erp.ts'
import { priceStream } from '../../../src/processors/sync/prices.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { explaining } from '../../fixtures/plans.ts'
import { createShop, priceOf, type Shop } from './stock-fixtures.ts'

let database: TestDatabase
let shop: Shop
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  shop = await createShop(database.db)
})

describe('a price', () => {
  test('goes to the product of its SKU; its default variant goes on without one', async () => {
    const { id } = await shop.product({ sku: 'A', price: '10.00', variants: [{ sku: 'A' }] })
    expect(await shop.sync(priceStream, [[priceOf('A', '12.34')]])).toMatchObject({
      updated: 1,
      unchanged: 0,
      stale: 0,
      unknown: 0,
    })
    expect(await shop.prices()).toEqual({ A: ['12.34', null], 'A/A': [null, null] })
    expect(await shop.changes()).toEqual({ [id]: ['price'] })
  })

  test('goes to the variant of its SKU, and to one of its product’s SKU that has a price of its own', async () => {
    const { id } = await shop.product({
      sku: 'TEE',
      variants: [
        { sku: 'TEE', price: '9.00' },
        { sku: 'TEE-L', price: null },
      ],
    })
    await shop.sync(priceStream, [[priceOf('TEE', '11.00'), priceOf('TEE-L', '13')]])
    expect(await shop.prices()).toEqual({
      TEE: ['11.00', null],
      'TEE/TEE': ['11.00', null],
      'TEE/TEE-L': ['13.00', null],
    })
    expect(await shop.changes()).toEqual({ [id]: ['price'] })
  })

  test('is exact to the cent up to the end of the column', async () => {
    const amounts = ['99999999.99', '0.01', '33554432.01', '0', '1234567.1']
    for (const [n] of amounts.entries()) await shop.product({ sku: `P${n}` })
    await shop.sync(priceStream, [amounts.map((amount, n) => priceOf(`P${n}`, amount))])
    expect(Object.values(await shop.prices()).map(([price]) => price)).toEqual([
      '99999999.99',
      '0.01',
      '33554432.01',
      '0.00',
      '1234567.10',
    ])
  })

  test('without a compare-at price leaves that to the shop; null empties it; later silence keeps the last word', async () => {
    const { id } = await shop.product({
      sku: 'A',
      price: '10',
      compareAtPrice: '15',
      variants: [{ sku: 'B', price: '1' }],
    })
    await shop.sync(priceStream, [[priceOf('A', '10', 1), priceOf('B', '1', 1)]])
    expect(await shop.prices()).toEqual({ A: ['10.00', '15.00'], 'A/B': ['1.00', null] })
    expect(await shop.changes()).toEqual({})
    await shop.sync(priceStream, [
      [priceOf('A', '10', 2, { compareAtPrice: null }), priceOf('B', '1', 2, { compareAtPrice: '2.50' })],
    ])
    expect(await shop.prices()).toEqual({ A: ['10.00', null], 'A/B': ['1.00', '2.50'] })
    expect(await shop.changes()).toEqual({ [id]: ['compareAtPrice'] })
    await database.db.execute(sql`UPDATE website_product_variants SET compare_at_price = 9 WHERE product_id = ${id}`)
    await shop.sync(priceStream, [[priceOf('B', '1', 3)]])
    expect(await shop.prices()).toMatchObject({ 'A/B': ['1.00', '2.50'] })
  })

  test('that says nothing new writes nothing; a change of the shop’s is healed and told', async () => {
    const { id } = await shop.product({ sku: 'A', price: '10' })
    const pages = [[priceOf('A', '10.5', 1, { compareAtPrice: '12' }), priceOf('GHOST', '1')]]
    await shop.sync(priceStream, pages)
    const before = await shop.writers()
    expect(await shop.sync(priceStream, pages)).toMatchObject({ updated: 0, unchanged: 1, stale: 0, unknown: 1 })
    expect(await shop.writers()).toEqual(before)
    await database.db.execute(sql`DELETE FROM website_worker.product_changes`)
    await database.db.execute(sql`UPDATE website_products SET price = 1, compare_at_price = 2 WHERE id = ${id}`)
    expect(await shop.sync(priceStream, pages)).toMatchObject({ updated: 1 })
    expect(await shop.prices()).toEqual({ A: ['10.50', '12.00'] })
    expect(await shop.changes()).toEqual({ [id]: ['compareAtPrice', 'price'] })
  })

  test('older than what is known is left alone; of two of one SKU the newer counts, wherever it comes', async () => {
    await shop.product({ sku: 'A' })
    await shop.sync(priceStream, [[priceOf('A', '7', 20)], [priceOf('A', '8', 10)]])
    expect(await shop.prices()).toEqual({ A: ['7.00', null] })
    expect(await shop.sync(priceStream, [[priceOf('A', '3', 19)]])).toMatchObject({ stale: 1, updated: 0 })
    expect(await shop.prices()).toEqual({ A: ['7.00', null] })
    await transact(database.db, (tx) => forgetPriceVersions(tx, shop.siteId))
    await shop.sync(priceStream, [[priceOf('A', '3', 1)]])
    expect(await shop.prices()).toEqual({ A: ['3.00', null] })
  })

  test('that is bad makes its product an error until it is right, or longer if another stream has something against it', async () => {
    const { id } = await shop.product({ sku: 'A', syncStatus: 'synced' })
    const bad: ErpReject = { entity: 'product', erpId: null, sku: 'A', reason: 'price: is negative', snapshot: {} }
    const status = async () => {
      const { rows } = await database.db.execute(sql`SELECT sync_status FROM website_products WHERE id = ${id}`)
      return rows[0]!.sync_status
    }
    const open = {
      siteId: shop.siteId,
      type: 'product',
      entity: 'product' as const,
      key: 'id:1',
      sku: 'A',
      reason: 'name: is empty',
    }
    for (const [others, after] of [
      [[], 'synced'],
      [[open], 'error'],
    ] as const) {
      if (others.length > 0) await database.db.insert(syncQuarantine).values([...others])
      await shop.sync(priceStream, [[]], {}, [bad])
      expect(await status()).toBe('error')
      expect(await shop.sync(priceStream, [[priceOf('A', '1')]])).toMatchObject({ resolved: 1 })
      expect(await status()).toBe(after)
    }
  })

  test("that the shop's own database refuses keeps no other back", async () => {
    await shop.product({ sku: 'A', variants: [{ sku: 'A-L', price: '5' }] })
    await shop.product({ sku: 'B' })
    const table = sql`ALTER TABLE website_product_variants`
    await database.db.execute(sql`${table} ADD CONSTRAINT dear CHECK (price > 4) NOT VALID`)
    const page = [priceOf('A', '3'), priceOf('A-L', '2'), priceOf('B', '1')]
    expect(await shop.sync(priceStream, [page])).toMatchObject({ updated: 2, refused: 1 })
    expect(await shop.prices()).toEqual({ A: ['3.00', null], 'A/A-L': ['5.00', null], B: ['1.00', null] })
    await database.db.execute(sql`${table} DROP CONSTRAINT dear`)
    expect(await shop.sync(priceStream, [page])).toMatchObject({ updated: 1 })
    expect(await shop.prices()).toMatchObject({ 'A/A-L': ['2.00', null] })
  })

  test('of an unknown SKU waits for its product, where the ERP has a price stream', async () => {
    await shop.sync(priceStream, [[priceOf('NEW', '12.30', 1, { compareAtPrice: '15' }), priceOf('NEW-L', '14')]])
    const { id } = await shop.product({
      sku: 'NEW',
      price: '1',
      variants: [{ sku: 'NEW' }, { sku: 'NEW-L', price: '1' }],
    })
    const run = await shop.staged(priceStream, [])
    const apply = (hasPriceStream: boolean) =>
      transact(database.db, (tx) => applyPricesTo(tx, { ...run, hasPriceStream }, [id]))
    expect(await apply(false)).toEqual([])
    expect(await apply(true)).toEqual([{ productId: id, changed: ['price', 'compareAtPrice'] }])
    expect(await shop.prices()).toEqual({
      NEW: ['12.30', '15.00'],
      'NEW/NEW': [null, null],
      'NEW/NEW-L': ['14.00', null],
    })
    expect(await shop.changes()).toEqual({})
  })

  test('says nothing about other sites and deleted products, and of a first import nobody is told', async () => {
    const other = await createShop(database.db)
    await other.product({ sku: 'A', variants: [{ sku: 'A-L', price: '5' }] })
    await shop.product({ sku: 'A', deletedAt: new Date(), variants: [{ sku: 'A-L', price: '5' }] })
    await shop.product({ sku: 'B', variants: [] })
    const page = [priceOf('A', '1'), priceOf('A-L', '1'), priceOf('B', '1')]
    expect(await shop.sync(priceStream, [page], { isFirst: true })).toMatchObject({ updated: 1, unknown: 2 })
    expect(await other.prices()).toEqual({ A: ['10.00', null], 'A/A-L': ['5.00', null] })
    expect(await shop.prices()).toEqual({ A: ['10.00', null], 'A/A-L': ['5.00', null], B: ['1.00', null] })
    expect(await shop.changes()).toEqual({})
  })
})

test('the judgement counts products that would cost nothing, or a variant of which would', async () => {
  await shop.sync(priceStream, [[priceOf('NEWER', '5', 9)]])
  for (const sku of ['A', 'B', 'NEWER']) await shop.product({ sku })
  await shop.product({ sku: 'FREE', price: '0' })
  await shop.product({ sku: 'C', variants: [{ sku: 'C1', price: '4' }, { sku: 'C2', price: '4' }, { sku: 'C3' }] })
  const page = ['A', 'NEWER', 'FREE', 'C', 'C1', 'C2', 'C3'].map((sku) => priceOf(sku, sku === 'C' ? '3' : '0', 2))
  expect(await shop.judge(priceStream, [[...page, priceOf('B', '0', 1)], [priceOf('B', '1', 2)]])).toEqual({
    products: 5,
    losingPrice: 2,
    losingStock: 0,
    deactivated: 0,
  })
})

test('an apply waits for no lock while it holds others, and keeps what was edited under it', async () => {
  const { id, variantIds } = await shop.product({ sku: 'A', price: '1', variants: [{ sku: 'A-L', price: '1' }] })
  const holder = await database.pool.connect()
  await holder.query('BEGIN')
  await holder.query("UPDATE website_products SET name = 'Edited', price = 3 WHERE id = $1", [id])
  const syncing = shop.sync(priceStream, [[priceOf('A', '2'), priceOf('A-L', '2')]])
  await expect.poll(() => shop.prices()).toMatchObject({ 'A/A-L': ['2.00', null] })
  await holder.query('UPDATE website_product_variants SET weight = 1 WHERE id = $1', [variantIds[0]])
  await holder.query('COMMIT')
  holder.release()
  expect(await syncing).toMatchObject({ updated: 2 })
  const { rows } = await database.db.execute(sql`SELECT name, price FROM website_products WHERE id = ${id}`)
  expect(rows).toEqual([{ name: 'Edited', price: '2.00' }])
})

test('rows are found by index, also while nothing is known of tables that are being filled', async () => {
  for (const { siteId } of [shop, await createShop(database.db)])
    await database.db.execute(
      sql`WITH p AS (
            INSERT INTO website_products (site_id, sku, name, price)
            SELECT ${siteId}, 'SKU-' || i, 'P', 1 FROM generate_series(1, 4000) i RETURNING id, sku)
          INSERT INTO website_product_variants (product_id, sku, price)
          SELECT id, sku || w, 1 FROM p, unnest(ARRAY['-S', '-L']) w`,
    )
  const page = Array.from({ length: 600 }, (_, i) => priceOf(`SKU-${i + 1}${['', '-S', '-L'][i % 3]}`, '2'))
  for (const isAnalyzed of [false, true]) {
    if (isAnalyzed) await database.db.execute(sql`ANALYZE website_products, website_product_variants`)
    const run = await shop.staged(priceStream, [page.map((price) => ({ ...price, price: isAnalyzed ? '3' : '2' }))])
    const plans = await transact(database.db, async (tx) => {
      const { db, plans } = explaining(tx as never)
      const range = { after: 0, through: 600 }
      expect(await keepPrices(db as never, run, range)).toEqual({ skus: 600, stale: 0 })
      const locked = await lockPrices(db as never, run, range)
      expect((await writePrices(db as never, run, locked)).rows).toBe(600)
      return plans
    })
    expect(plans).toHaveLength(4)
    // The last two know which rows they write, and may read a small table whole.
    expect(plans.slice(0, 2).join('\n')).not.toMatch(
      /Seq Scan on (website_products|website_product_variants|erp_prices)/,
    )
    // Never all of a site for each SKU.
    expect(plans.join('\n')).not.toMatch(/Index Cond: \(+site_id = \d+\)$/m)
  }
})
