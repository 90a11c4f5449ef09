import { eq, sql } from 'drizzle-orm'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { disableDomain } from '../../src/db/domains.ts'
import { keepSyncSchedules } from '../../src/db/queries/sync/sync-schedules.ts'
import { addAsks } from '../../src/db/queries/sync/asks.ts'
import { owePending } from '../../src/db/queries/sync/pending.ts'
import { transact } from '../../src/db/client.ts'
import { schedules, websiteProducts, websiteSites } from '../../src/db/schema/index.ts'
import { spreadSeconds } from '../../src/queues/spread.ts'
import type { ErpMood } from '../fixtures/erp.ts'
import { createSyncStack, type SyncStack, type SyncStackOptions } from './sync-fixtures.ts'

let stack: SyncStack
async function start(options: Partial<SyncStackOptions> = {}) {
  stack = await createSyncStack({ jobs: ['sync-products'], ...options })
  stack.work()
  stack.dispatcher.start()
}
afterEach(() => stack.close())

const eventually = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 30 })
const product = (n: number, more: object = {}) => ({
  id: n,
  sku: `S-${n}`,
  name: `Product ${n}`,
  price: '9.90',
  ...more,
})
async function sync(siteId: number, payload: object = {}, state = 'done') {
  const { workId } = await stack.ask('sync-products', { siteId, ...payload })
  return eventually(async () => {
    const item = await stack.item(workId)
    expect(item, item.lastError ?? '').toMatchObject({ state })
    return item
  })
}
const mark = (siteId: number, status: 'pending' | 'synced' = 'pending') =>
  stack.db.update(websiteProducts).set({ syncStatus: status }).where(eq(websiteProducts.siteId, siteId))
const look = () => owePending(stack.db, { job: 'sync-products', type: 'product' }, false, 1_000)
const statuses = async (siteId: number) =>
  Object.fromEntries((await stack.productRows(siteId)).map(({ sku, syncStatus }) => [sku, syncStatus]))

describe('products', () => {
  test('come in as a whole, with bad ones aside, and a second full run writes nothing', async () => {
    await start()
    const siteId = await stack.site({ pageSize: 10 })
    stack.erp.products.fill(25, (n) => product(n + 1, n === 7 ? { price: '-1.00' } : {}))
    const first = await sync(siteId)
    expect(first.result).toMatchObject({
      mode: 'full',
      counts: { inserted: 24, quarantined: 1 },
      drift: { differing: 0 },
    })
    expect(await stack.productRows(siteId)).toHaveLength(24)
    const rows = () =>
      stack.db.execute(
        sql`SELECT id, xmin::text FROM website_products UNION ALL SELECT id, xmin::text FROM website_product_variants`,
      )
    const before = (await rows()).rows
    const second = await sync(siteId, { mode: 'full' })
    expect(second.result).toMatchObject({ mode: 'full', counts: { unchanged: 24 } })
    expect((await rows()).rows).toEqual(before)
    expect((await stack.logs(siteId)).filter((log) => log.entityType === 'run')).toHaveLength(1)
    expect((await stack.runs(siteId)).map(({ isFirst }) => isFirst)).toEqual([true, false])
  })
})

test('what another ERP says is taken, whatever its versions are; a comparison with it changes nothing', async () => {
  await start()
  const siteId = await stack.site()
  for (const n of [1, 2]) stack.erp.products.set(product(n, { version: 100 }))
  await sync(siteId)
  await stack.db.execute(
    sql`UPDATE website_sites SET settings = jsonb_set(settings, '{erp,siteKey}', '"other"') WHERE id = ${siteId}`,
  )
  stack.erp.products.set(product(1, { version: 5, cost: '1.00' }))
  const versions = async () =>
    (await stack.db.execute(sql`SELECT version FROM website_worker.erp_products ORDER BY product_id`)).rows.map(
      (row) => row['version'],
    )
  await sync(siteId, { audit: true })
  expect(await versions()).toEqual(['100', '100'])
  expect((await sync(siteId)).result).toMatchObject({ mode: 'full', counts: { updated: 1, stale: 0, unchanged: 1 } })
  expect((await stack.productRows(siteId)).map(({ cost }) => cost)).toEqual(['1.00', null])
  expect(await versions()).toEqual(['5', '100'])
  stack.erp.products.set(product(1, { version: 4, cost: '2.00' }))
  expect((await sync(siteId, { mode: 'full' })).result).toMatchObject({ counts: { stale: 1 } })
})

describe('a product marked as pending', () => {
  test('is asked for once, and ends in step, or as an error where the ERP does not know it', async () => {
    await start()
    const siteId = await stack.site()
    stack.erp.products.fill(3, (n) => product(n + 1))
    await sync(siteId)
    await stack.db.insert(websiteProducts).values({ siteId, sku: 'OWN', name: 'Our own', price: '1' })
    stack.erp.products.change('2', { name: 'Renamed' })
    stack.erp.clearLog()
    await mark(siteId)
    const inStep = { 'S-1': 'synced', 'S-2': 'synced', 'S-3': 'synced' }
    await eventually(async () => expect(await statuses(siteId)).toEqual({ ...inStep, OWN: 'error' }))
    expect((await stack.productRows(siteId)).find(({ sku }) => sku === 'S-2')!.name).toBe('Renamed')
    await eventually(async () => expect((await stack.items('sync-products')).at(-1)).toMatchObject({ state: 'done' }))
    expect(await look()).toBe(0)
    expect((await stack.items('sync-products')).map(({ payload }) => payload)).toEqual([
      { siteId },
      { siteId, asked: true },
    ])
    expect(stack.erp.requests.map(({ skus }) => skus)).toEqual([['S-1', 'S-2', 'S-3', 'OWN']])
    expect((await stack.logs(siteId)).filter((log) => log.entityType === 'product')).toMatchObject([
      { status: 'error', errorMessage: 'the ERP knows no product of this SKU', dataSnapshot: { sku: 'OWN' } },
    ])
    expect((await stack.db.execute(sql`SELECT FROM website_worker.erp_asks`)).rowCount).toBe(0)
  })

  test('waits for the first import of its site, and does not hammer an ERP that fails', async () => {
    await start()
    const siteId = await stack.site()
    await stack.db.insert(websiteProducts).values({ siteId, sku: 'S-1', name: 'Ours', price: '1' })
    expect(await look()).toBe(0)
    stack.erp.products.fill(1, () => product(1))
    await sync(siteId)
    expect(await statuses(siteId)).toEqual({ 'S-1': 'synced' })
    stack.erp.onRequest(() => ({ status: 404 }))
    await mark(siteId)
    await eventually(async () => expect((await stack.items('sync-products')).at(-1)).toMatchObject({ state: 'failed' }))
    const asked = stack.erp.requests.length
    expect(await look()).toBe(0)
    expect(stack.erp.requests).toHaveLength(asked)
    // Once it has rested, what was left is asked for again.
    stack.erp.onRequest(() => 'serve')
    await stack.db.execute(sql`UPDATE website_worker.sync_checkpoints SET failed_at = now() - interval '1 day'`)
    await eventually(async () => expect(await statuses(siteId)).toEqual({ 'S-1': 'synced' }))
  })
})

test('what is asked for while a run is under way is brought by the next', async () => {
  await start()
  const siteId = await stack.site()
  stack.erp.products.fill(3, (n) => product(n + 1))
  await sync(siteId)
  const askFor = (sku: string) =>
    transact(stack.db, async (tx) => {
      await addAsks(tx, siteId, 'product', [sku])
      await tx.execute(
        sql`SELECT website_worker.enqueue('sync-products', ${JSON.stringify({ siteId, asked: true })}::jsonb)`,
      )
    })
  stack.erp.clearLog()
  let asked = 0
  stack.erp.onRequest(async (): Promise<ErpMood> => {
    if (++asked === 1) await askFor('S-2')
    return 'serve'
  })
  await askFor('S-1')
  await eventually(async () => expect(stack.erp.requests.map(({ skus }) => skus)).toEqual([['S-1'], ['S-2']]))
  await eventually(async () =>
    expect((await stack.db.execute(sql`SELECT FROM website_worker.erp_asks`)).rowCount).toBe(0),
  )
})

describe('schedules', () => {
  const schedule = { job: 'sync-products', field: 'products', everySeconds: 3_600, isFirst: true } as const
  const keep = (hasDefault = false) => keepSyncSchedules(stack.db, schedule, hasDefault)
  const kept = async () =>
    (await stack.db.select().from(schedules).orderBy(schedules.siteId)).map(({ siteId, job, everySeconds }) => ({
      siteId,
      job,
      everySeconds,
    }))

  test('follow the settings of the sites, and change nothing that stands', async () => {
    stack = await createSyncStack({ jobs: ['sync-products'] })
    const often = (word: string) => stack.site({ schedule: { products: word } })
    const usual = await stack.site({ schedule: {} })
    const quarter = await often('15m')
    const off = await often('off')
    await stack.site({}, { status: 'inactive' })
    await stack.site({}, { deletedAt: new Date() })
    await stack.site({}, { settings: null })
    const row = (siteId: number, everySeconds: number) => ({ siteId, job: 'sync-products', everySeconds })
    expect(await keep()).toBe(2)
    expect(await kept()).toEqual([row(usual, 3_600), row(quarter, 900)])
    expect(await keep()).toBe(0)

    const [before] = await stack.db.select().from(schedules).where(eq(schedules.siteId, usual))
    expect(before!.offsetSeconds).toBe(spreadSeconds('sync-products', usual, 3_600))
    const set = (siteId: number, word: string) =>
      stack.db
        .update(websiteSites)
        .set({ settings: { erp: { url: stack.erp.url, schedule: { products: word } } } })
        .where(eq(websiteSites.id, siteId))
    await set(usual, '2h')
    await set(quarter, 'OFF')
    await set(off, 'rubbish')
    await keep()
    expect(await kept()).toEqual([row(usual, 7_200), row(off, 3_600)])
    await disableDomain(stack.db, 'erp')
    await keep()
    expect(await kept()).toEqual([])
  })

  test('are for sites without settings too, where the environment names an ERP', async () => {
    stack = await createSyncStack({ jobs: ['sync-products'], environment: { url: 'http://erp.example' } })
    const siteId = await stack.site({}, { settings: null })
    expect(await keep(true)).toBe(1)
    expect(await kept()).toMatchObject([{ siteId }])
  })

  test('owe a run of their own', async () => {
    await start()
    stack.erp.products.fill(2, (n) => product(n + 1))
    const siteId = await stack.site({ schedule: { products: '1h' } })
    await keep()
    await eventually(async () => expect(await stack.productRows(siteId)).toHaveLength(2))
    expect((await stack.items('sync-products')).map(({ trigger }) => trigger)).toEqual(['schedule'])
  })
})
