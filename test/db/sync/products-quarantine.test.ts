import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { syncQuarantine } from '../../../src/db/schema/index.ts'
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

test('a bad record is written down with its reason, at its row and in the log; the others go on', async () => {
  await catalog.full([product('1', 'A'), product('2', 'B')])
  const { id } = await catalog.row('A')
  const rejects = [
    reject('1', 'A'),
    reject('9', 'NEW'),
    reject(null, null, { reason: 'record: is no object', snapshot: 7 }),
  ]
  expect(await catalog.sync([{ products: [product('2', 'B', { price: '11.00' })], rejects }])).toMatchObject({
    updated: 1,
    quarantined: 3,
  })
  expect(await catalog.row('A')).toMatchObject({ syncStatus: 'error', price: '10.00', status: 'active' })
  expect(await catalog.row('B')).toMatchObject({ syncStatus: 'synced', price: '11.00' })
  expect(await catalog.quarantine()).toMatchObject([
    {
      entity: 'product',
      erpId: '1',
      sku: 'A',
      reason: 'price: is negative',
      snapshot: { price: '-1' },
      resolvedAt: null,
    },
    { erpId: '9', sku: 'NEW' },
    { erpId: null, sku: null, reason: 'record: is no object', snapshot: 7 },
  ])
  expect(await catalog.logs()).toEqual([
    { entity_type: 'product', entity_id: id, status: 'error', error_message: 'price: is negative' },
    { entity_type: 'product', entity_id: null, status: 'error', error_message: 'price: is negative' },
    { entity_type: 'product', entity_id: null, status: 'error', error_message: 'record: is no object' },
  ])
})

test('seeing the same bad records again writes nothing; another reason is news', async () => {
  const pages = (reason: string) => [
    { products: [product('2', 'B')], rejects: [reject('1', 'A', { reason }), reject(null, null), reject(null, 'C')] },
  ]
  await catalog.insert({ sku: 'A' })
  expect(await catalog.sync(pages('name: is too long'))).toMatchObject({ quarantined: 3 })
  const before = await catalog.traces()
  expect(await catalog.sync(pages('name: is too long'))).toMatchObject({ quarantined: 0, resolved: 0 })
  expect(await catalog.traces()).toEqual(before)
  expect(await catalog.sync(pages('name: is empty'))).toMatchObject({ quarantined: 1 })
  expect((await catalog.quarantine()).map((row) => row.reason)).toContain('name: is empty')
  expect(await catalog.quarantine()).toHaveLength(3)
  expect(await catalog.logs()).toHaveLength(4)
})

test('it is let go when the record comes good, is deleted in the ERP, or is not there any more', async () => {
  await catalog.full([product('1', 'A'), product('2', 'B'), product('3', 'C')])
  const rejects = [reject('1', 'A'), reject(null, 'B'), reject('3', 'C'), reject(null, null)]
  await catalog.sync([{ rejects }], { mode: 'incremental' })
  expect((await catalog.rows()).map((row) => row.syncStatus)).toEqual(['error', 'error', 'error'])
  const good = {
    products: [product('1', 'A'), product('2', 'B')],
    tombstones: [{ erpId: '3', sku: null, version: '2' }],
  }
  expect(await catalog.sync([good], { mode: 'incremental' })).toMatchObject({ resolved: 3 })
  expect((await catalog.rows()).map((row) => row.syncStatus)).toEqual(['synced', 'synced', 'synced'])
  expect(await catalog.full([product('1', 'A'), product('2', 'B')])).toMatchObject({ resolved: 1 })
  expect((await catalog.quarantine()).every((row) => row.resolvedAt !== null)).toBe(true)
})

test('between a good and a bad record of one product, the later one counts', async () => {
  await catalog.sync([{ products: [product('1', 'A')] }, { rejects: [reject('1', 'A')] }])
  expect(await catalog.rows()).toEqual([])
  await catalog.sync([{ rejects: [reject('1', 'A')] }, { products: [product('1', 'A')] }])
  expect(await catalog.row('A')).toMatchObject({ syncStatus: 'synced' })
  expect((await catalog.quarantine()).every((row) => row.resolvedAt !== null)).toBe(true)
})

test("what the shop's own database refuses is found among the others and put aside", async () => {
  const many = Array.from({ length: 300 }, (_, at) => product(String(at), `S${at}`))
  await database.db.execute(
    sql`ALTER TABLE website_products ADD CONSTRAINT sane CHECK (price < 1000 OR site_id <> ${sql.raw(String(catalog.siteId))})`,
  )
  many[7] = product('7', 'S7', { price: '1000.00' })
  many[222] = product('222', 'S222', { price: '2000.00' })
  expect(await catalog.full(many)).toMatchObject({ inserted: 298, quarantined: 2 })
  expect(await catalog.rows()).toHaveLength(298)
  const [first] = await catalog.quarantine()
  expect(first).toMatchObject({
    erpId: '7',
    sku: 'S7',
    reason: expect.stringMatching(/^the shop's database refuses it: .*sane/),
  })
  await database.db.execute(sql`ALTER TABLE website_products DROP CONSTRAINT sane`)
  expect(await catalog.full(many)).toMatchObject({ inserted: 2, unchanged: 298, resolved: 2 })
})

test('a row that the shop lets nobody write keeps no other from its changes, its end or its quarantine', async () => {
  const skus = ['A', 'B', 'C', 'D']
  await catalog.full(skus.map((sku, at) => product(String(at), sku)))
  await database.db.execute(sql`
    CREATE FUNCTION keep_b() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN IF OLD.sku = ''B'' THEN RAISE ''frozen''; END IF; RETURN NEW; END'`)
  await database.db.execute(
    sql`CREATE TRIGGER keep_b BEFORE UPDATE ON website_products FOR EACH ROW EXECUTE FUNCTION keep_b()`,
  )
  const dear = skus.map((sku, at) => product(String(at), sku, { price: '11.00', version: '2' }))
  expect(await catalog.full(dear)).toMatchObject({ updated: 3, quarantined: 1 })
  expect(await catalog.quarantine()).toMatchObject([{ erpId: '1', reason: expect.stringMatching(/frozen/) }])
  expect(await catalog.full(dear.slice(0, 1))).toMatchObject({ deactivated: 2, refused: 1, resolved: 1 })
  expect((await catalog.rows()).map(({ price, status }) => `${price} ${status}`)).toEqual([
    '11.00 active',
    '10.00 active',
    '11.00 inactive',
    '11.00 inactive',
  ])
  await database.db.execute(sql`DROP FUNCTION keep_b CASCADE`)
  expect(await catalog.full(dear.slice(0, 1))).toMatchObject({ deactivated: 1 })
})

test('a product whose price is in quarantine stays in error, and is not written again and again', async () => {
  await catalog.full([product('1', 'A')])
  const { id, siteId } = await catalog.row('A')
  await database.db.insert(syncQuarantine).values({
    siteId: siteId!,
    type: 'price',
    entity: 'product',
    key: 'sku:A',
    sku: 'A',
    reason: 'price: is negative',
  })
  await database.db.execute(sql`UPDATE website_products SET sync_status = 'error' WHERE id = ${id}`)
  const before = await catalog.traces()
  await catalog.full([product('1', 'A')])
  expect(await catalog.traces()).toEqual(before)
  expect(await catalog.row('A')).toMatchObject({ syncStatus: 'error' })
})
