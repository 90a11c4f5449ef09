import { randomUUID } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createProductStream } from '../../../src/processors/sync/products.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createCatalog, manyProducts, product, type Catalog } from './catalog-fixtures.ts'

let database: TestDatabase
let catalog: Catalog
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  catalog = await createCatalog(database.db, createProductStream(20))
})

const slugs = async () => (await catalog.rows()).map((row) => row.seoSlug)

describe('a first import, two ranges of which are written at a time', () => {
  test('makes each product once, with a slug of its own also where all have one name', async () => {
    await catalog.category('a')
    const products = manyProducts(110, (at) => ({
      name: 'The same',
      categories: ['a', 'b'],
      variants: [{ sku: `V${at}` }],
    }))
    const counts = await catalog.full(products, { isFirst: true })
    expect(counts).toMatchObject({ inserted: 110, variantsInserted: 110, categoriesUnknown: 110, unchanged: 0 })
    expect(new Set(await slugs()).size).toBe(110)
    expect(await catalog.categories('S57')).toEqual(['a*'])
    expect((await catalog.variants('S99')).map((row) => row.sku)).toEqual(['V99'])
    expect(await catalog.full(products)).toMatchObject({ inserted: 0, updated: 0, unchanged: 110 })
  })

  test('leaves one record out that the database refuses, and none beside it', async () => {
    await database.db.execute(
      sql`ALTER TABLE website_products ADD CONSTRAINT sane CHECK (sku NOT IN ('S7', 'S33')) NOT VALID`,
    )
    try {
      expect(await catalog.full(manyProducts(60), { isFirst: true })).toMatchObject({ inserted: 58, quarantined: 2 })
    } finally {
      await database.db.execute(sql`ALTER TABLE website_products DROP CONSTRAINT sane`)
    }
    expect(await catalog.rows()).toHaveLength(58)
    expect((await catalog.quarantine()).map((row) => row.sku)).toEqual(expect.arrayContaining(['S7', 'S33']))
  })

  test('takes over what the shop has already, and does again what was not noted as done', async () => {
    await catalog.insert({ sku: 'S25', seoSlug: 'mine' })
    const run = await catalog.staged([{ products: manyProducts(90) }], { isFirst: true })
    const theirs = randomUUID()
    const broken = catalog.apply(run, {
      signal: new AbortController().signal,
      async progress() {
        await database.db.execute(
          sql`UPDATE website_worker.sync_runs SET token = ${theirs}::uuid, applied_through = 20 WHERE id = ${run.runId}`,
        )
      },
    })
    await expect(broken).rejects.toThrow('taken over')
    const resumed = { ...run, token: theirs, appliedThrough: 20 }
    expect(await catalog.apply(resumed)).toMatchObject({ inserted: 50, updated: 0, unchanged: 20 })
    expect(await catalog.rows()).toHaveLength(90)
    expect(await catalog.row('S25')).toMatchObject({ seoSlug: 'mine', price: '10.00' })
    expect(await catalog.stream.audit(database.db, resumed)).toMatchObject({ differing: 0 })
    expect(await catalog.changes()).toEqual({})
  })

  test('finds free slugs also where a large table is yet to get the index for it', async () => {
    await database.db.execute(sql`DROP INDEX idx_website_products_seo_slug_site_id`)
    await catalog.insert({ sku: 'MINE', seoSlug: 'tea' })
    await catalog.full([product('1', 'T1', { name: 'Tea' }), product('2', 'T2', { name: 'Pot' })], { isFirst: true })
    expect(await slugs()).toEqual(['tea', 'tea-t1', 'pot'])
  })
})
