import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { erpIds, retiredVariants } from '../../../src/db/schema/index.ts'
import { inventoryStream } from '../../../src/processors/sync/inventory.ts'
import { priceStream } from '../../../src/processors/sync/prices.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createShop, level, priceOf, type Shop } from './stock-fixtures.ts'

let database: TestDatabase
let shop: Shop
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  shop = await createShop(database.db)
})

const setStock = (sku: string, quantity: number | null) =>
  database.db.execute(sql`
    UPDATE website_product_variants SET inventory_quantity = ${quantity}
    WHERE sku = ${sku} AND product_id IN (SELECT id FROM website_products WHERE site_id = ${shop.siteId})`)

describe('an audit of stock', () => {
  test('counts what differs of what both have, and its hashes are equal exactly if nothing does', async () => {
    for (const sku of ['A', 'B', 'C', 'SHOP-ONLY']) await shop.product({ sku, variants: [{ sku }] })
    await shop.product({ sku: 'SET', variants: [{ sku: 'A' }] })
    const pages = [
      [level('A', 5), level('B', -1), level('ERP-ONLY', 3)],
      [level('C', 0), level('C', 9, 0)],
    ]
    await shop.sync(inventoryStream, pages)
    const fine = await shop.audit(inventoryStream, pages)
    expect(fine).toMatchObject({ erp: 4, shop: 5, compared: 4, differing: 0 })
    expect(fine.erpHash).toBe(fine.shopHash)
    await setStock('B', 0)
    await setStock('A', null)
    const drifted = await shop.audit(inventoryStream, pages)
    expect(drifted).toMatchObject({ compared: 4, differing: 3, erpHash: fine.erpHash })
    expect(drifted.shopHash).not.toBe(fine.shopHash)
    expect(await shop.stock()).toMatchObject({ A: [null, null], B: 0 })
  })

  test('takes quantities that change places for what they are', async () => {
    for (const sku of ['A', 'A,1']) await shop.product({ sku, variants: [{ sku }] })
    const pages = [[level('A', 1), level('A,1', 2)]]
    await shop.sync(inventoryStream, pages)
    await setStock('A', 2)
    await setStock('A,1', 1)
    const { differing, erpHash, shopHash } = await shop.audit(inventoryStream, pages)
    expect(differing).toBe(2)
    expect(erpHash).not.toBe(shopHash)
  })

  test('knows what is newer, reserved or retired', async () => {
    const { variantIds } = await shop.product({
      sku: 'A',
      variants: [{ sku: 'A1' }, { sku: 'A2' }, { sku: 'OLD', stock: 0 }],
    })
    await database.db.insert(retiredVariants).values({ variantId: variantIds[2]! })
    const order = await shop.order([{ sku: 'A2', quantity: 2 }])
    const pushing = { pushesOrders: true }
    await shop.sync(inventoryStream, [[level('A1', 7, 2), level('A2', 7)]], pushing)
    const pages = [[level('A1', 3, 1), level('A2', 7), level('OLD', 4)]]
    expect(await shop.audit(inventoryStream, pages, pushing)).toMatchObject({ compared: 2, differing: 0 })
    expect(await shop.audit(inventoryStream, pages)).toMatchObject({ compared: 2, differing: 1 })
    await database.db.insert(erpIds).values({ siteId: shop.siteId, entity: 'order', erpId: 'x', rowId: order })
    expect(await shop.audit(inventoryStream, pages, pushing)).toMatchObject({ differing: 1 })
  })

  test('of nothing finds nothing', async () => {
    const { erpHash, shopHash, ...counts } = await shop.audit(inventoryStream, [])
    expect(counts).toEqual({ erp: 0, shop: 0, compared: 0, differing: 0 })
    expect(erpHash).toBe(shopHash)
  })
})

test('an audit of prices compares products and variants with a price of their own, and compare-at prices the ERP spoke of', async () => {
  await shop.product({ sku: 'A', compareAtPrice: '99', variants: [{ sku: 'A' }, { sku: 'A-L' }] })
  await shop.product({ sku: 'B', compareAtPrice: '99' })
  const pages = [[priceOf('A', '1.10'), priceOf('A-L', '2'), priceOf('B', '3', 1, { compareAtPrice: null })]]
  await shop.sync(priceStream, pages)
  const fine = await shop.audit(priceStream, pages)
  expect(fine).toMatchObject({ erp: 3, shop: 3, compared: 3, differing: 0 })
  expect(fine.erpHash).toBe(fine.shopHash)
  await database.db.execute(sql`
    UPDATE website_products SET compare_at_price = 50, price = price + 0.01 WHERE site_id = ${shop.siteId} AND sku = 'A'`)
  await database.db.execute(sql`
    UPDATE website_products SET compare_at_price = 50 WHERE site_id = ${shop.siteId} AND sku = 'B'`)
  const drifted = await shop.audit(priceStream, pages)
  expect(drifted).toMatchObject({ compared: 3, differing: 2, erpHash: fine.erpHash })
  expect(drifted.shopHash).not.toBe(fine.shopHash)
  expect(await shop.audit(priceStream, [[priceOf('A', '1.11')]])).toMatchObject({ erp: 1, compared: 1, differing: 0 })
})
