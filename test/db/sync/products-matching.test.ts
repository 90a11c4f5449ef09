import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createProductStream } from '../../../src/processors/sync/products.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createCatalog, product, reject, type Catalog } from './catalog-fixtures.ts'

let database: TestDatabase
let catalog: Catalog
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  // Two records a transaction: whatever belongs together is in different ones.
  catalog = await createCatalog(database.db, createProductStream(2))
})

const incremental = { mode: 'incremental' } as const

describe('a row of the shop', () => {
  test('is found by the ERP id, whatever its SKU is by now', async () => {
    await catalog.full([product('P-1', 'OLD')])
    const { id } = await catalog.row('OLD')
    await catalog.changes()
    expect(await catalog.full([product('P-1', 'NEW')])).toMatchObject({ renamed: 1, inserted: 0 })
    expect(await catalog.row('NEW')).toMatchObject({ id, erpProductId: null })
    expect(await catalog.variants('NEW')).toMatchObject([{ sku: 'NEW' }])
    expect(await catalog.changes()).toEqual({ NEW: ['sku'] })
    expect(await catalog.full([product('P-1', 'NEW')])).toMatchObject({ renamed: 0, unchanged: 1 })
  })

  test('is found by the number that it had before', async () => {
    const id = await catalog.insert({ sku: 'ELSE', erpProductId: 42, lastSyncedAt: new Date() })
    await catalog.full([product('42', 'A'), product('43', 'B')])
    expect(await catalog.row('A')).toMatchObject({ id, erpProductId: 42, price: '10.00', name: 'Shop name' })
    expect(await catalog.links()).toEqual({ A: '42', B: '43' })
  })

  test('is adopted by its SKU: filled if nothing was ever synced, else with its texts', async () => {
    const blank = await catalog.insert({ sku: 'A' })
    const known = await catalog.insert({ sku: 'B', lastSyncedAt: new Date(), description: 'Mine' })
    expect(await catalog.full([product('1', 'A'), product('2', 'B', { description: 'ERP' })])).toMatchObject({
      inserted: 0,
      adopted: 2,
    })
    expect(await catalog.row('A')).toMatchObject({ id: blank, name: 'Product 1', price: '10.00', erpProductId: 1 })
    expect(await catalog.row('B')).toMatchObject({
      id: known,
      name: 'Shop name',
      description: 'Mine',
      price: '10.00',
      syncStatus: 'synced',
    })
    await catalog.full([product('2', 'B', { description: 'ERP, new', version: '2' })], incremental)
    expect(await catalog.row('B')).toMatchObject({ name: 'Shop name', description: 'ERP, new' })
  })

  test('that was deleted and has the SKU is linked, and stays deleted', async () => {
    const id = await catalog.insert({ sku: 'A', deletedAt: new Date() })
    expect(await catalog.full([product('1', 'A')])).toMatchObject({ inserted: 0, deleted: 1 })
    expect(await catalog.row('A')).toMatchObject({ id, name: 'Shop name', deletedAt: expect.any(Date) })
    expect(await catalog.links()).toEqual({ A: '1' })
  })

  test('that the shop removed is made anew', async () => {
    await catalog.full([product('1', 'A')])
    await database.db.execute(sql`DELETE FROM website_products WHERE site_id = ${catalog.siteId}`)
    expect(await catalog.full([product('1', 'A')])).toMatchObject({ inserted: 1 })
    expect(await catalog.links()).toEqual({ A: '1' })
  })

  test('belongs to a long id, a text or a number beyond INTEGER alike', async () => {
    await catalog.full([
      product('2147483647', 'A'),
      product('2147483648', 'B'),
      product('0b5f-é', 'C'),
      product('007', 'D'),
    ])
    expect((await catalog.rows()).map((row) => row.erpProductId)).toEqual([2_147_483_647, null, null, null])
    expect(await catalog.full([product('007', 'D')], incremental)).toMatchObject({ unchanged: 1, inserted: 0 })
  })
})

describe('SKUs', () => {
  const named = (...skus: string[]) => skus.map((sku, at) => product(String(at + 1), sku, { version: '2' }))
  const now = async () => (await catalog.rows()).map((row) => row.sku)

  test('swap, go round and follow each other, across transactions', async () => {
    await catalog.full(named('A', 'B', 'C', 'D', 'E', 'F', 'G'))
    expect(await catalog.full(named('B', 'A', 'D', 'E', 'C', 'G', 'H'))).toMatchObject({ renamed: 7, inserted: 0 })
    expect(await now()).toEqual(['B', 'A', 'D', 'E', 'C', 'G', 'H'])
    for (const sku of await now()) expect((await catalog.variants(sku)).map((one) => one.sku)).toEqual([sku])
    expect(await catalog.quarantine()).toEqual([])
  })

  test('that products swap take their stock and their prices along', async () => {
    await catalog.full(named('A', 'B', 'C'))
    await database.db.execute(
      sql`INSERT INTO website_worker.erp_stock (site_id, sku, quantity, version)
          VALUES (${catalog.siteId}, 'A', 5, 1), (${catalog.siteId}, 'B', 0, 1)`,
    )
    await database.db.execute(
      sql`INSERT INTO website_worker.erp_prices (site_id, sku, price, version)
          VALUES (${catalog.siteId}, 'A', 5, 1), (${catalog.siteId}, 'B', 50, 1)`,
    )
    await catalog.changes()
    await catalog.full(named('B', 'A', 'D'), { hasPriceStream: true })
    const shown = async (sku: string) => [
      (await catalog.row(sku)).price,
      (await catalog.variants(sku))[0]!.inventoryQuantity,
    ]
    expect(await shown('A')).toEqual(['5.00', 5])
    expect(await shown('B')).toEqual(['50.00', 0])
    expect(await shown('D')).toEqual(['10.00', 0])
    expect(await catalog.changes()).toEqual({ A: ['inventory', 'price', 'sku'], B: ['price', 'sku'], D: ['sku'] })
  })

  test('of a renamed product are free for a new one in the same run', async () => {
    await catalog.full(named('A', 'B'))
    expect(await catalog.full(named('C', 'B', 'A'))).toMatchObject({ renamed: 1, inserted: 1 })
    expect(await catalog.links()).toEqual({ A: '3', B: '2', C: '1' })
  })

  test('of a product that is archived, gone or not there any more are taken over by the new one', async () => {
    await catalog.full(named('A', 'B', 'C'))
    const ids = (await catalog.rows()).map((row) => row.id)
    const fresh = (erpId: string, sku: string) => product(erpId, sku, { name: `New ${erpId}` })
    await catalog.sync(
      [{ products: [product('1', 'A', { status: 'inactive', version: '3' }), fresh('11', 'A')] }],
      incremental,
    )
    await catalog.sync([{ tombstones: [{ erpId: '2', sku: 'B', version: '3' }] }], incremental)
    await catalog.sync([{ products: [fresh('12', 'B')] }], incremental)
    await catalog.full([fresh('11', 'A'), fresh('12', 'B'), fresh('13', 'C')])
    expect(await catalog.rows()).toMatchObject(
      ['11', '12', '13'].map((erpId, at) => ({
        id: ids[at],
        name: `New ${erpId}`,
        status: 'active',
        erpProductId: Number(erpId),
      })),
    )
    expect(await catalog.links()).toEqual({ A: '11', B: '12', C: '13' })
    // The archived one still being there, with its old SKU, is no conflict.
    await catalog.full([
      product('1', 'A', { status: 'inactive', version: '9' }),
      fresh('11', 'A'),
      fresh('12', 'B'),
      fresh('13', 'C'),
    ])
    expect(await catalog.quarantine()).toEqual([])
    expect(await catalog.row('A')).toMatchObject({ status: 'active', name: 'New 11' })
  })

  test('of a product that is gone can be given to another that the shop has', async () => {
    await catalog.full(named('A', 'B'))
    const [first, second] = await catalog.rows()
    expect(await catalog.full([product('2', 'A', { version: '3' })])).toMatchObject({ renamed: 1, deactivated: 1 })
    expect(await catalog.row('A')).toMatchObject({ id: second!.id, status: 'active' })
    expect(await catalog.row(`A-retired-${first!.id}`)).toMatchObject({ id: first!.id, status: 'inactive' })
  })

  test('that another live product has are refused to the newcomer, and who waits for its SKU waits too', async () => {
    await catalog.full(named('A', 'B', 'C'))
    const renamed = [product('2', 'A', { version: '3' }), product('3', 'B', { version: '3' }), product('4', 'A')]
    expect(await catalog.sync([{ products: renamed }], incremental)).toMatchObject({
      renamed: 0,
      inserted: 0,
      quarantined: 3,
    })
    expect(await now()).toEqual(['A', 'B', 'C'])
    const reasons = new Map((await catalog.quarantine()).map((row) => [row.erpId, row.reason]))
    expect(reasons.get('2')).toBe('SKU A belongs to product 1 of the ERP')
    expect(reasons.get('3')).toBe('SKU B belongs to product 2 of the ERP')
    expect(reasons.get('4')).toBe('SKU A is also that of product 2 of the ERP')
    expect((await catalog.rows()).map((row) => row.syncStatus)).toEqual(['synced', 'error', 'error'])
    await catalog.full([product('1', 'Z', { version: '4' }), ...renamed.slice(0, 2), product('4', 'Y')])
    expect(await now()).toEqual(['Z', 'A', 'B', 'Y'])
    expect((await catalog.rows()).every((row) => row.syncStatus === 'synced')).toBe(true)
    expect((await catalog.quarantine()).every((row) => row.resolvedAt !== null)).toBe(true)
  })

  test("of the shop's own and of deleted products are not taken by a rename", async () => {
    await catalog.full(named('A', 'B'))
    await catalog.insert({ sku: 'OWN' })
    await catalog.insert({ sku: 'DELETED', deletedAt: new Date() })
    await catalog.sync(
      [{ products: [product('1', 'OWN', { version: '3' }), product('2', 'DELETED', { version: '3' })] }],
      incremental,
    )
    expect((await catalog.quarantine()).map((row) => row.reason)).toEqual([
      "SKU OWN is that of a product of the shop's own",
      'SKU DELETED is that of a product that the shop has deleted',
    ])
    expect(await now()).toEqual(['A', 'B', 'OWN', 'DELETED'])
  })

  test("that the shop's database refuses cost only their own product", async () => {
    await catalog.full(named('A', 'B', 'C'))
    await database.db.execute(
      sql`ALTER TABLE website_products ADD CONSTRAINT no_x CHECK (sku <> 'X' OR site_id <> ${sql.raw(String(catalog.siteId))})`,
    )
    expect(await catalog.full([...named('X', 'C', 'B')])).toMatchObject({ renamed: 2, quarantined: 1 })
    expect(await now()).toEqual(['A', 'C', 'B'])
    await database.db.execute(sql`ALTER TABLE website_products DROP CONSTRAINT no_x`)
  })
})

describe('versions', () => {
  test('an older one changes nothing, an equal one is applied if it differs', async () => {
    const at = (version: string, price: string) => product('1', 'A', { version, price, name: price })
    await catalog.full([at('1767225600000000002', '2.00')])
    expect(await catalog.full([at('1767225600000000001', '1.00')])).toMatchObject({ stale: 1, updated: 0 })
    expect(await catalog.row('A')).toMatchObject({ price: '2.00', name: '2.00' })
    expect(await catalog.full([at('1767225600000000002', '3.00')])).toMatchObject({ stale: 0, updated: 1 })
    await catalog.sync([{ tombstones: [{ erpId: '1', sku: 'A', version: '1' }] }], incremental)
    expect(await catalog.row('A')).toMatchObject({ price: '3.00', name: '3.00', status: 'active' })
  })

  test('of one product that comes twice, the highest counts, whatever order they come in', async () => {
    const at = (version: string) => product('1', 'A', { version, name: `v${version}` })
    await catalog.sync([{ products: [at('2')] }, { products: [at('10'), product('2', 'B')] }, { products: [at('9')] }])
    expect(await catalog.row('A')).toMatchObject({ name: 'v10' })
    await catalog.sync(
      [{ products: [at('11')] }, { tombstones: [{ erpId: '1', sku: null, version: '12' }] }],
      incremental,
    )
    expect(await catalog.row('A')).toMatchObject({ status: 'inactive' })
  })
})

describe('what the ERP has no more', () => {
  test('becomes inactive by a tombstone, or by a full run that has seen all; and active when it is back', async () => {
    await catalog.full([product('1', 'A'), product('2', 'B'), product('3', 'C')])
    await catalog.insert({ sku: 'OWN' })
    await catalog.changes()
    expect(await catalog.sync([{ tombstones: [{ erpId: '1', sku: null, version: '2' }] }], incremental)).toMatchObject({
      deactivated: 1,
    })
    expect(await catalog.full([product('2', 'B')])).toMatchObject({ deactivated: 1 })
    expect((await catalog.rows()).map((row) => row.status)).toEqual(['inactive', 'active', 'inactive', 'active'])
    expect(await catalog.changes()).toEqual({ A: ['status'], C: ['status'] })
    expect(await catalog.full([product('2', 'B')])).toMatchObject({ deactivated: 0 })
    await catalog.full([product('1', 'A', { version: '3' }), product('2', 'B'), product('3', 'C')])
    expect((await catalog.rows()).map((row) => row.status)).toEqual(['active', 'active', 'active', 'active'])
  })

  test('is not what came bad; a bad record that names nothing leaves all as it is', async () => {
    await catalog.full([product('1', 'A'), product('2', 'B'), product('3', 'C')])
    await catalog.sync([{ products: [product('3', 'C')], rejects: [reject('1', null), reject(null, 'B')] }])
    expect((await catalog.rows()).map((row) => row.status)).toEqual(['active', 'active', 'active'])
    expect(await catalog.sync([{ products: [product('3', 'C')], rejects: [reject(null, null)] }])).toMatchObject({
      sweepSkipped: 1,
      deactivated: 0,
    })
    expect((await catalog.rows()).map((row) => row.status)).toEqual(['active', 'active', 'active'])
  })

  test('is found among rows that only had a number', async () => {
    await catalog.insert({ sku: 'GONE', erpProductId: 99 })
    expect(await catalog.full([product('1', 'A')])).toMatchObject({ deactivated: 1 })
    expect(await catalog.row('GONE')).toMatchObject({ status: 'inactive' })
  })
})

test('a run is judged by what it would do', async () => {
  const all = Array.from({ length: 10 }, (_, at) =>
    product(String(at), `S${at}`, { variants: at === 0 ? [{ sku: 'V', price: '5.00' }] : [] }),
  )
  await catalog.full(all)
  await catalog.change('S9', { deletedAt: new Date() })
  const run = await catalog.staged([
    {
      products: [
        product('0', 'S0', { variants: [{ sku: 'V', price: '0.00' }] }),
        product('1', 'S1', { price: '0' }),
        product('2', 'S2', { status: 'inactive' }),
        product('33', 'S3'),
        ...all.slice(4, 8),
      ],
      tombstones: [{ erpId: '8', sku: null, version: '2' }],
    },
  ])
  expect(await catalog.stream.judge(database.db, run)).toEqual({
    products: 9,
    losingPrice: 2,
    losingStock: 0,
    deactivated: 2,
  })
  expect(await catalog.stream.judge(database.db, { ...run, hasPriceStream: true })).toMatchObject({ losingPrice: 0 })
  expect(await catalog.stream.judge(database.db, { ...run, mode: 'incremental' })).toMatchObject({ deactivated: 2 })
  const own = { ...run, mode: 'incremental', fields: ['name'] } as const
  expect(await catalog.stream.judge(database.db, own), 'the shop keeps statuses to itself').toMatchObject({
    deactivated: 1,
  })
})

test('an audit tells what differs before a run is applied, and nothing after', async () => {
  await catalog.full([product('1', 'A'), product('2', 'B'), product('3', 'C')])
  await catalog.change('A', { price: '1.00' })
  const run = await catalog.staged([{ products: [product('1', 'A'), product('2', 'B'), product('4', 'D')] }])
  expect(await catalog.stream.audit(database.db, run)).toMatchObject({ compared: 4, differing: 3 })
  await catalog.apply(run)
  const { differing, erpHash, shopHash } = await catalog.stream.audit(database.db, run)
  expect({ differing, isSame: erpHash === shopHash }).toEqual({ differing: 0, isSame: true })
})
