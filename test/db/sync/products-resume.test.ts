import { randomUUID } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { transact, type Tx } from '../../../src/db/client.ts'
import { applyProductRange, linkProducts } from '../../../src/db/queries/sync/products-apply.ts'
import { planInserts } from '../../../src/db/queries/sync/products-insert.ts'
import { prepareForSets, readTraversal } from '../../../src/db/queries/sync/products-staged.ts'
import { createProductStream } from '../../../src/processors/sync/products.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { explaining, someoneWaits } from '../../fixtures/plans.ts'
import { createCatalog, manyProducts, reject, type Catalog } from './catalog-fixtures.ts'

let database: TestDatabase
let catalog: Catalog
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  catalog = await createCatalog(database.db, createProductStream(20))
})

test('a second run over the same products rewrites no row and draws no serial', async () => {
  await catalog.category('a')
  const products = manyProducts(60, (at) => ({
    categories: ['a', 'unknown'],
    description: 'Text',
    weight: '1.5',
    dimensions: { a: 1.0 },
    images: [{ url: 'x' }],
    variants: at % 2 ? [{ sku: `V${at}`, name: 'V', price: '1.10', attributes: { a: [1] }, weight: '0.5' }] : [],
    ...(at % 4 === 3 && { variants: [{ sku: `Z${at}` }, { sku: `A${at}` }], keepsVariants: true as const }),
  }))
  const pages = [{ products, rejects: [reject('bad', 'BAD')] }]
  await catalog.sync(pages, { isFirst: true })
  const before = await catalog.traces()
  expect(await catalog.sync(pages)).toMatchObject({
    inserted: 0,
    updated: 0,
    unchanged: 60,
    variantsUpdated: 0,
    quarantined: 0,
  })
  expect(await catalog.traces()).toEqual(before)
  expect(await catalog.changes()).toEqual({})
})

test('a run that is broken off goes on from where it was, under another token, and ends exact', async () => {
  await catalog.full(manyProducts(40), { isFirst: true })
  const [first, second, ...rest] = manyProducts(100, () => ({ price: '11.11', version: '2' }))
  const swapped = [{ ...first!, sku: 'S1' }, { ...second!, sku: 'S0' }, ...rest.slice(0, 70)]
  const run = await catalog.staged([{ products: swapped, rejects: [reject(null, 'X')] }])
  const stop = new AbortController()
  const seen: number[] = []
  const broken = catalog.apply(run, {
    signal: stop.signal,
    progress(done, total) {
      seen.push(done, total)
      if (done === 40) stop.abort(new Error('stopped'))
    },
  })
  await expect(broken).rejects.toThrow('stopped')
  expect(seen).toEqual([20, 73, 40, 73])
  const { rows } = await database.db.execute(
    sql`UPDATE website_worker.sync_runs SET token = ${randomUUID()}::uuid WHERE id = ${run.runId}
        RETURNING applied_through AS through, token`,
  )
  expect(rows[0]!.through).toBe(40)
  await expect(catalog.apply({ ...run, appliedThrough: 40 })).rejects.toThrow('taken over')
  const resumed = { ...run, token: rows[0]!.token as string, appliedThrough: 40 }
  expect(await catalog.apply(resumed)).toMatchObject({ inserted: 32, updated: 0, quarantined: 1 })
  const shop = new Map((await catalog.rows()).map((row) => [row.sku, row]))
  expect(shop.size).toBe(72)
  expect([...shop.values()].every((row) => row.price === '11.11' && row.status === 'active')).toBe(true)
  expect(await catalog.links()).toMatchObject({ S0: 'id-1', S1: 'id-0' })
  expect(await catalog.stream.audit(database.db, resumed)).toMatchObject({ differing: 0 })
  expect(await catalog.apply(resumed)).toMatchObject({ inserted: 0, updated: 0, quarantined: 0 })
})

test('a row that the shop is writing is waited for without deadlock, and its edit is kept', async () => {
  await catalog.full(manyProducts(3))
  let applied: Promise<unknown> | undefined
  await transact(database.db, async (tx) => {
    await tx.execute(sql`UPDATE website_products SET name = 'Edited' WHERE site_id = ${catalog.siteId} AND sku = 'S1'`)
    applied = catalog.full(manyProducts(3, () => ({ price: '12.00', version: '2' })))
    await someoneWaits(database.db)
  })
  await applied
  expect((await catalog.rows()).map((row) => [row.name, row.price])).toEqual([
    ['Product id-0', '12.00'],
    ['Edited', '12.00'],
    ['Product id-2', '12.00'],
  ])
})

test('a product that the shop makes while it is inserted is adopted', async () => {
  const run = await catalog.staged([{ products: manyProducts(3) }])
  let applied: Promise<unknown> | undefined
  await transact(database.db, async (tx) => {
    await tx.execute(
      sql`INSERT INTO website_products (site_id, sku, name, price) VALUES (${catalog.siteId}, 'S1', 'Made', 1)`,
    )
    applied = catalog.apply(run)
    await someoneWaits(database.db)
  })
  await applied
  expect((await catalog.rows()).map((row) => [row.sku, row.price])).toEqual(
    expect.arrayContaining([
      ['S0', '10.00'],
      ['S1', '10.00'],
      ['S2', '10.00'],
    ]),
  )
  expect(await catalog.links()).toEqual({ S0: 'id-0', S1: 'id-1', S2: 'id-2' })
})

test('reads no large table whole, also before anything is known of it', async () => {
  await database.db.execute(
    sql`INSERT INTO website_products (site_id, sku, name, price, seo_slug)
        SELECT ${catalog.siteId}, 'P' || i, 'P' || i, 1, 'p' || i FROM generate_series(1, 20000) i`,
  )
  const run = await catalog.staged([{ products: manyProducts(30) }], { mode: 'incremental' })
  const view = await readTraversal(database.db, run)
  const plans = await transact(database.db, async (tx) => {
    await prepareForSets(tx)
    const explained = explaining(tx)
    await linkProducts(explained.db as Tx, run, view)
    const range = { after: 0, through: 30 }
    const plan = await planInserts(explained.db as Tx, run, range)
    await applyProductRange(explained.db as Tx, run, view, range, plan)
    return explained.plans
  })
  expect(plans.length).toBeGreaterThan(10)
  expect(plans.join('\n')).not.toMatch(/Seq Scan on (website_products|website_product_|erp_|sync_staging)/)
  expect(await catalog.rows()).toHaveLength(20_030)
})
