import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { ErpVariant } from '../../../src/erp.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createCatalog, product, reject, type Catalog } from './catalog-fixtures.ts'

let database: TestDatabase
let catalog: Catalog
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  catalog = await createCatalog(database.db)
})

const tee = (variants: ErpVariant[], more = {}) => product('1', 'TEE', { variants, ...more })
const skus = async () => (await catalog.variants('TEE')).map((variant) => variant.sku)
const stock = (sku: string, quantity: number) =>
  database.db.execute(
    sql`INSERT INTO website_worker.erp_stock (site_id, sku, quantity, version) VALUES (${catalog.siteId}, ${sku}, ${quantity}, 1)`,
  )

test('has what the ERP says of it, and the stock that was named before it came', async () => {
  await stock('TEE-S', 7)
  await catalog.full([
    tee([
      {
        sku: 'TEE-S',
        name: 'S',
        price: '9.00',
        compareAtPrice: '12.00',
        attributes: { size: 'S' },
        imageUrl: 'https://x/s.jpg',
        weight: '0.20',
      },
      { sku: 'TEE-M' },
    ]),
  ])
  expect(await catalog.variants('TEE')).toMatchObject([
    { sku: 'TEE-M', name: null, price: null, attributes: {}, inventoryQuantity: 0 },
    {
      sku: 'TEE-S',
      name: 'S',
      price: '9.00',
      compareAtPrice: '12.00',
      attributes: { size: 'S' },
      imageUrl: 'https://x/s.jpg',
      weight: '0.20',
      inventoryQuantity: 7,
      inventoryPolicy: 'deny',
    },
  ])
})

test("is put right where it differs from the ERP's; its policy and stock are left alone", async () => {
  await catalog.full([tee([{ sku: 'S', name: 'Small', price: '9.00', attributes: { size: 'S' } }, { sku: 'M' }])])
  await database.db.execute(
    sql`UPDATE website_product_variants SET name = 'x', price = 1, attributes = '{}', inventory_policy = 'continue',
          inventory_quantity = 3, weight = 9 WHERE sku = 'S'`,
  )
  await catalog.changes()
  expect(
    await catalog.full([tee([{ sku: 'S', name: 'Small', price: '9.00', attributes: { size: 'S' } }, { sku: 'M' }])]),
  ).toMatchObject({
    variantsUpdated: 1,
    unchanged: 1,
  })
  expect((await catalog.variants('TEE'))[1]).toMatchObject({
    name: 'Small',
    price: '9.00',
    attributes: { size: 'S' },
    inventoryPolicy: 'continue',
    inventoryQuantity: 3,
    weight: '9.00',
  })
  expect(await catalog.changes()).toEqual({ TEE: ['variants'] })
})

test("keeps the price stream's price", async () => {
  const run = { hasPriceStream: true }
  await database.db.execute(
    sql`INSERT INTO website_worker.erp_prices (site_id, sku, price, version) VALUES (${catalog.siteId}, 'S', 4.00, 1)`,
  )
  await catalog.full(
    [
      tee([
        { sku: 'S', price: '9.00' },
        { sku: 'M', price: '8.00' },
      ]),
    ],
    run,
  )
  await catalog.full(
    [
      tee([
        { sku: 'S', price: '7.00' },
        { sku: 'M', price: '7.00' },
      ]),
    ],
    run,
  )
  expect((await catalog.variants('TEE')).map(({ sku, price }) => [sku, price])).toEqual([
    ['M', '8.00'],
    ['S', '4.00'],
  ])
})

test('of a product without any is its own; it goes when real ones come, and comes when they go', async () => {
  await catalog.full([tee([])])
  expect(await skus()).toEqual(['TEE'])
  expect(await catalog.full([tee([{ sku: 'S' }, { sku: 'M' }])])).toMatchObject({
    variantsInserted: 2,
    variantsDeleted: 1,
  })
  expect(await skus()).toEqual(['M', 'S'])
  await catalog.full([tee([])])
  expect(await skus()).toEqual(['TEE'])
})

test('that carts or orders name stays with nothing to sell when it is removed, and sells again when it is back', async () => {
  await stock('S', 5)
  const both = tee([{ sku: 'S' }, { sku: 'M' }, { sku: 'L' }])
  await catalog.full([both])
  await database.db.execute(sql`UPDATE website_product_variants SET inventory_policy = 'continue' WHERE sku = 'S'`)
  const [large, , small] = await catalog.variants('TEE')
  await catalog.putIntoCart(small!.id)
  await database.db.execute(
    sql`WITH o AS (INSERT INTO website_orders (site_id, order_number, customer_email, total, shipping_address, billing_address)
                   VALUES (${catalog.siteId}, gen_random_uuid(), 'a@b.c', 1, '{}', '{}') RETURNING id)
        INSERT INTO website_order_items (order_id, variant_id, sku, name, quantity, price, subtotal, total)
        SELECT o.id, ${large!.id}, 'L', 'L', 1, 1, 1, 1 FROM o`,
  )
  expect(await catalog.full([tee([])])).toMatchObject({ variantsDeleted: 1, variantsRetired: 2, variantsInserted: 1 })
  expect(await catalog.variants('TEE')).toMatchObject([
    { sku: 'L', inventoryQuantity: 0, inventoryPolicy: 'deny' },
    { id: small!.id, sku: 'S', inventoryQuantity: 0, inventoryPolicy: 'deny' },
    { sku: 'TEE' },
  ])
  expect(await catalog.full([tee([])])).toMatchObject({ variantsRetired: 0, variantsDeleted: 0 })
  expect(await catalog.full([both])).toMatchObject({ variantsRevived: 2, variantsInserted: 1 })
  expect((await catalog.variants('TEE'))[2]).toMatchObject({
    id: small!.id,
    inventoryQuantity: 5,
    inventoryPolicy: 'continue',
  })
})

test('that the shop made itself stays', async () => {
  await catalog.full([tee([{ sku: 'S' }])])
  const { id } = await catalog.row('TEE')
  await database.db.execute(sql`INSERT INTO website_product_variants (product_id, sku) VALUES (${id}, 'MINE')`)
  await catalog.full([tee([{ sku: 'M' }])])
  expect(await skus()).toEqual(['M', 'MINE'])
})

test('moves to another product with its SKU', async () => {
  await stock('S', 4)
  await catalog.full([tee([{ sku: 'S' }, { sku: 'M' }]), product('2', 'SET')])
  await catalog.full([tee([{ sku: 'M' }]), product('2', 'SET', { variants: [{ sku: 'S' }] })])
  expect(await skus()).toEqual(['M'])
  expect(await catalog.variants('SET')).toMatchObject([{ sku: 'S', inventoryQuantity: 4 }])
})

test('is not removed while it comes bad', async () => {
  await catalog.full([tee([{ sku: 'S' }, { sku: 'M' }])])
  const bad = reject(null, 'S', { entity: 'variant', reason: 'price: is negative' })
  const half = { products: [tee([{ sku: 'M' }], { keepsVariants: true })], rejects: [bad] }
  expect(await catalog.sync([half])).toMatchObject({ variantsDeleted: 0, quarantined: 1 })
  expect(await skus()).toEqual(['M', 'S'])
  expect(await catalog.row('TEE')).toMatchObject({ syncStatus: 'synced' })
  expect(await catalog.full([tee([{ sku: 'M' }])])).toMatchObject({ variantsDeleted: 1, resolved: 1 })
  expect(await skus()).toEqual(['M'])
})

test('keeps the name of a renamed product, unless that is taken in the product', async () => {
  await catalog.full([tee([{ sku: 'S' }, { sku: 'X' }])])
  const x = (await catalog.variants('TEE')).find((variant) => variant.sku === 'X')!
  await catalog.putIntoCart(x.id)
  await catalog.full([tee([])])
  await catalog.full([product('1', 'X', { variants: [] })])
  expect(await catalog.variants('X')).toMatchObject([{ id: x.id, sku: 'X' }])
})
