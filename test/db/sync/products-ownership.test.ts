import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { websiteSites } from '../../../src/db/schema/index.ts'
import { workOf } from '../main-app.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createCatalog, product, type Catalog } from './catalog-fixtures.ts'

let database: TestDatabase
let catalog: Catalog
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  catalog = await createCatalog(database.db)
})

const whole = product('7', 'TEE', {
  name: 'T-Shirt “Größe”',
  description: 'Long',
  shortDescription: 'Short',
  price: '19.99',
  compareAtPrice: '24.99',
  cost: '7.01',
  weight: '0.25',
  dimensions: { width: 10 },
  attributes: { color: 'red' },
  images: [{ url: 'https://shop.example/tee.jpg' }],
})

test('a new product has everything that the ERP says, a slug of its own and a variant to sell', async () => {
  expect(await catalog.full([whole])).toMatchObject({ inserted: 1, updated: 0, unchanged: 0, variantsInserted: 1 })
  expect(await catalog.row('TEE')).toMatchObject({
    erpProductId: 7,
    name: 'T-Shirt “Größe”',
    description: 'Long',
    shortDescription: 'Short',
    price: '19.99',
    compareAtPrice: '24.99',
    cost: '7.01',
    weight: '0.25',
    dimensions: { width: 10 },
    attributes: { color: 'red' },
    images: [{ url: 'https://shop.example/tee.jpg' }],
    status: 'active',
    seoSlug: 't-shirt-grosse',
    seoTitle: null,
    isFeatured: false,
    syncStatus: 'synced',
    lastSyncedAt: expect.any(Date),
    deletedAt: null,
  })
  expect(await catalog.variants('TEE')).toMatchObject([
    { sku: 'TEE', price: null, inventoryQuantity: 0, inventoryPolicy: 'deny' },
  ])
  expect(await catalog.changes()).toEqual({ TEE: ['created'] })
  expect((await workOf(database.db, 'announce-products')).map((item) => item.siteId)).toContain(catalog.siteId)
})

test('products of one name have slugs of their own, and names without letters one of their SKU', async () => {
  const named = (erpId: string, sku: string, name: string) => product(erpId, sku, { name })
  await catalog.full([named('1', 'A', 'Tee'), named('2', 'B', 'Tee!'), named('3', 'B.', 'tee')])
  await catalog.full([named('4', 'C-4', '★'), named('5', 'D', 'Tee'), named('6', '—', '…')], { mode: 'incremental' })
  const slugs = (await catalog.rows()).map((row) => row.seoSlug!)
  expect(slugs.slice(0, 2)).toEqual(['tee', 'tee-b'])
  expect(slugs[2]).toMatch(/^tee-b-[0-9a-z]+$/)
  expect(slugs.slice(3)).toEqual(['c-4', 'tee-d', 'product'])
})

test("what the ERP owns is put right whenever it differs; the shop's own columns are never touched", async () => {
  await catalog.full([whole])
  const mine = {
    seoTitle: 'Mine',
    seoDescription: 'Mine',
    seoSlug: 'mine',
    isFeatured: true,
    isBestseller: true,
  }
  await catalog.change('TEE', {
    ...mine,
    price: '1.00',
    compareAtPrice: null,
    cost: null,
    weight: '9.00',
    dimensions: { width: 11 },
  })
  await catalog.changes()
  expect(await catalog.full([whole])).toMatchObject({ updated: 1, unchanged: 0 })
  expect(await catalog.row('TEE')).toMatchObject({
    ...mine,
    price: '19.99',
    compareAtPrice: '24.99',
    cost: '7.01',
    weight: '0.25',
    dimensions: { width: 10 },
  })
  expect(await catalog.changes()).toEqual({ TEE: ['compareAtPrice', 'cost', 'dimensions', 'price', 'weight'] })
})

test("an edit of texts in the shop stays until the ERP's own text changes", async () => {
  await catalog.full([whole])
  const edits = {
    name: 'My name',
    description: 'Mine',
    shortDescription: null,
    attributes: { color: 'blue' },
    images: [],
  }
  await catalog.change('TEE', edits)
  expect(await catalog.full([{ ...whole, version: '2' }])).toMatchObject({ updated: 0, unchanged: 1 })
  expect(await catalog.row('TEE')).toMatchObject(edits)
  await catalog.full([{ ...whole, version: '3', description: 'Longer', images: [1] }])
  expect(await catalog.row('TEE')).toMatchObject({ ...edits, description: 'Longer', images: [1] })
})

test('a field that the ERP leaves out stays, one that it empties is emptied, one that it begins to send is taken', async () => {
  await catalog.full([product('1', 'A', { description: 'Text', cost: '1.00', compareAtPrice: '12.00' })])
  await catalog.full([product('1', 'A', { shortDescription: 'New' })])
  expect(await catalog.row('A')).toMatchObject({ description: 'Text', cost: '1.00', shortDescription: 'New' })
  await catalog.full([product('1', 'A', { description: null, cost: null, compareAtPrice: null })])
  expect(await catalog.row('A')).toMatchObject({ description: null, cost: null, compareAtPrice: null })
})

describe('prices', () => {
  test('are left to the price stream once a product is there', async () => {
    const run = { hasPriceStream: true }
    await database.db.execute(
      sql`INSERT INTO website_worker.erp_prices (site_id, sku, price, compare_at_price, says_compare_at, version)
          VALUES (${catalog.siteId}, 'A', 3.33, 4.44, true, 9)`,
    )
    await catalog.full([product('1', 'A'), product('2', 'B', { compareAtPrice: '11.00' })], run)
    expect(await catalog.row('A')).toMatchObject({ price: '3.33', compareAtPrice: '4.44' })
    expect(await catalog.row('B')).toMatchObject({ price: '10.00', compareAtPrice: '11.00' })
    await catalog.full([product('1', 'A', { price: '7.00' }), product('2', 'B', { price: '8.00' })], run)
    expect((await catalog.rows()).map((row) => row.price)).toEqual(['3.33', '10.00'])
  })
})

describe('status', () => {
  const as = (status: 'active' | 'inactive' | 'draft', version: string) => [product('1', 'A', { status, version })]
  const status = async () => (await catalog.row('A')).status

  test("follows the ERP's", async () => {
    await catalog.full(as('inactive', '1'))
    expect(await status()).toBe('inactive')
    await catalog.full(as('active', '2'))
    expect(await status()).toBe('active')
    await catalog.changes()
    expect(await catalog.full(as('draft', '3'))).toMatchObject({ deactivated: 1 })
    expect(await catalog.changes()).toEqual({ A: ['status'] })
    await catalog.full(as('inactive', '4'))
    expect(await status()).toBe('inactive')
    await catalog.full(as('active', '5'))
    expect(await status()).toBe('active')
  })

  test('draft of the shop stays, and what the shop deactivated itself is not activated', async () => {
    await catalog.full(as('active', '1'))
    for (const chosen of ['draft', 'inactive'] as const) {
      await catalog.change('A', { status: chosen })
      await catalog.full(as('inactive', '2'))
      await catalog.full(as('active', '3'))
      expect(await status()).toBe(chosen)
    }
  })

  test('that the shop set back to active stays while the ERP says nothing else', async () => {
    await catalog.full(as('inactive', '1'))
    await catalog.change('A', { status: 'active' })
    await catalog.full(as('inactive', '2'))
    expect(await status()).toBe('active')
    await catalog.full(as('active', '3'))
    await catalog.full(as('inactive', '4'))
    expect(await status()).toBe('inactive')
  })

  test('that is NULL is left alone, and becomes inactive with the ERP', async () => {
    await catalog.full(as('active', '1'))
    await catalog.change('A', { status: null })
    await catalog.full(as('active', '2'))
    expect(await status()).toBeNull()
    await catalog.full(as('inactive', '3'))
    expect(await status()).toBe('inactive')
  })
})

test('a deleted product stays deleted and unwritten; restored, it gets what it missed', async () => {
  await catalog.full([product('1', 'A')])
  await catalog.change('A', { deletedAt: new Date() })
  const before = await catalog.row('A')
  expect(await catalog.full([product('1', 'A', { name: 'Other', price: '5.00', version: '2' })])).toMatchObject({
    inserted: 0,
    updated: 0,
    deleted: 1,
  })
  expect(await catalog.full([])).toMatchObject({ deactivated: 0 })
  expect(await catalog.row('A')).toEqual(before)
  await catalog.change('A', { deletedAt: null })
  await catalog.full([product('1', 'A', { name: 'Other', price: '5.00', version: '2' })])
  expect(await catalog.row('A')).toMatchObject({ name: 'Other', price: '5.00' })
})

test('fields that a site keeps to itself are not written', async () => {
  const run = { fields: ['description'] }
  await catalog.category('shoes')
  await catalog.full([{ ...whole, categories: ['shoes'] }], run)
  expect(await catalog.row('TEE')).toMatchObject({
    name: whole.name,
    description: 'Long',
    shortDescription: null,
    images: [],
  })
  await catalog.full(
    [{ ...whole, name: 'New', description: 'New', status: 'inactive', cost: '1.00', version: '2' }],
    run,
  )
  expect(await catalog.row('TEE')).toMatchObject({
    name: whole.name,
    description: 'New',
    status: 'active',
    cost: '1.00',
  })
  expect(await catalog.categories('TEE')).toEqual([])
})

describe('categories', () => {
  test('of the shop are linked, the first as the primary one; unknown ones are left out until they exist', async () => {
    await catalog.category('shoes')
    await catalog.category('men')
    const shoe = product('1', 'A', { categories: ['new', 'shoes', 'men'] })
    expect(await catalog.full([shoe])).toMatchObject({ categoriesUnknown: 1 })
    expect(await catalog.categories('A')).toEqual(['men', 'shoes*'])
    await catalog.category('new')
    await catalog.changes()
    await catalog.full([shoe])
    expect(await catalog.categories('A')).toEqual(['men', 'new*', 'shoes'])
    expect(await catalog.changes()).toEqual({ A: ['categories'] })
  })

  test('that the shop added or took away stay as they are when the ERP names others', async () => {
    const sale = await catalog.category('sale')
    for (const slug of ['shoes', 'men', 'boots']) await catalog.category(slug)
    await catalog.full([product('1', 'A', { categories: ['shoes', 'men'] })])
    const { id } = await catalog.row('A')
    await database.db.execute(
      sql`INSERT INTO website_product_categories (product_id, category_id) VALUES (${id}, ${sale})`,
    )
    await database.db.execute(
      sql`DELETE FROM website_product_categories l USING website_categories c
          WHERE c.id = l.category_id AND l.product_id = ${id} AND c.slug = 'men'`,
    )
    await catalog.full([product('1', 'A', { categories: ['boots', 'men'], version: '2' })])
    expect(await catalog.categories('A')).toEqual(['boots*', 'sale'])
  })
})

test('a product that asked to be synced is in step afterwards, without a word about it', async () => {
  await catalog.full([product('1', 'A', { version: '5' }), product('2', 'B')])
  await catalog.changes()
  await catalog.change('A', { syncStatus: 'pending' })
  await catalog.change('B', { syncStatus: 'pending' })
  expect(await catalog.full([product('1', 'A', { version: '4' }), product('2', 'B')])).toMatchObject({
    stale: 1,
    unchanged: 1,
    updated: 0,
  })
  expect((await catalog.rows()).map((row) => row.syncStatus)).toEqual(['synced', 'synced'])
  expect(await catalog.changes()).toEqual({})
})

test('other sites, and products of no site, are none of its business', async () => {
  const other = await createCatalog(database.db)
  await other.full([product('1', 'A')])
  await database.db.execute(
    sql`INSERT INTO website_products (sku, name, price, erp_product_id) VALUES ('A', 'No site', 1, 1)`,
  )
  const before = await other.rows()
  await catalog.full([product('1', 'A', { name: 'Here' })])
  await catalog.full([])
  expect(await other.rows()).toEqual(before)
  const { rows } = await database.db.execute(sql`SELECT name, status FROM website_products WHERE site_id IS NULL`)
  expect(rows).toEqual([{ name: 'No site', status: 'active' }])
  expect(await catalog.row('A')).toMatchObject({ name: 'Here', status: 'inactive' })
})

test("a first import tells nobody; the server's zone changes no time", async () => {
  await database.db
    .update(websiteSites)
    .set({ timezone: 'Asia/Kolkata' })
    .where(sql`id = ${catalog.siteId}`)
  const before = Date.now()
  await catalog.full([whole], { isFirst: true })
  expect(await catalog.changes()).toEqual({})
  expect(Math.abs((await catalog.row('TEE')).lastSyncedAt!.getTime() - before)).toBeLessThan(60_000)
})
