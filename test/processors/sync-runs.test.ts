import { sql } from 'drizzle-orm'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { ErpMood } from '../fixtures/erp.ts'
import { createSyncStack, type SyncStack, type SyncStackOptions } from './sync-fixtures.ts'

let stack: SyncStack
async function start(options: Partial<SyncStackOptions> = {}) {
  stack = await createSyncStack({ jobs: ['sync-inventory'], ...options })
  stack.work()
  stack.dispatcher.start()
}
afterEach(() => stack.close())

const eventually = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 30 })
const ask = async (siteId: number, payload: object = {}) =>
  (await stack.ask('sync-inventory', { siteId, ...payload })).workId
const ended = (workId: number, state: string) =>
  eventually(async () => {
    const item = await stack.item(workId)
    expect(item, item.lastError ?? '').toMatchObject({ state })
    return item
  })
async function sync(siteId: number, payload: object = {}, state = 'done') {
  return ended(await ask(siteId, payload), state)
}
const requests = () => stack.erp.requests.map(({ since, cursor, skus }) => ({ since, cursor: cursor !== null, skus }))

describe('a run', () => {
  test('reads everything first, then what changed; a quiet one leaves no row in the log', async () => {
    await start()
    const siteId = await stack.site({ pageSize: 4 })
    await stack.products(siteId, 10)
    stack.stock(10, (n) => n)
    const first = await sync(siteId)
    expect(first.result).toMatchObject({ mode: 'full', counts: { fetched: 10, updated: 10 }, drift: { differing: 0 } })
    expect((await stack.quantities(siteId)).get('S-7')).toBe(7)
    expect(requests()).toEqual([
      { since: null, cursor: false, skus: null },
      { since: null, cursor: true, skus: null },
      { since: null, cursor: true, skus: null },
    ])
    expect(await stack.logs(siteId)).toMatchObject([
      {
        syncType: 'inventory',
        entityType: 'run',
        status: 'success',
        dataSnapshot: { mode: 'full', counts: { updated: 10 } },
      },
    ])

    stack.erp.clearLog()
    await sync(siteId)
    expect(requests()).toEqual([{ since: (await stack.checkpoints(siteId))[0]!.checkpoint, cursor: false, skus: null }])
    expect(await stack.logs(siteId)).toHaveLength(1)
    stack.erp.inventory.change('S-3', { quantity: 99 })
    expect((await sync(siteId)).result).toMatchObject({ mode: 'incremental', counts: { fetched: 1, updated: 1 } })
    expect((await stack.quantities(siteId)).get('S-3')).toBe(99)
    expect(await stack.logs(siteId)).toHaveLength(2)
    expect((await stack.runs(siteId)).map(({ mode, state }) => [mode, state])).toEqual([
      ['full', 'done'],
      ['incremental', 'done'],
      ['incremental', 'done'],
    ])
    expect(stack.calls).toEqual(['page', 'page', 'page', 'page', 'page'])
    expect(stack.rows).toContainEqual(['inventory', 'updated', 10])
  })

  test('of some SKUs asks for these alone, in batches, and moves no checkpoint', async () => {
    await start()
    const siteId = await stack.site()
    await stack.products(siteId, 120)
    stack.stock(120, (n) => n)
    const skus = Array.from({ length: 110 }, (_, n) => `S-${n + 20}`)
    const { result } = await sync(siteId, { skus })
    expect(result).toMatchObject({ mode: 'targeted', counts: { fetched: 101, updated: 101, unknown: 9 } })
    expect(stack.erp.requests.flatMap((request) => request.skus)).toEqual(skus)
    expect(stack.erp.requests).toHaveLength(3)
    const quantities = await stack.quantities(siteId)
    expect(['S-19', 'S-20', 'S-120'].map((sku) => quantities.get(sku))).toEqual([0, 20, 120])
    expect(await stack.checkpoints(siteId)).toMatchObject([{ checkpoint: null, fullAt: null }])
  })

  test('is tried again when the ERP fails, and succeeds', async () => {
    await start()
    const siteId = await stack.site()
    await stack.products(siteId, 3)
    stack.stock(3, () => 5)
    // Short retries are the connector's; all of one attempt fail.
    stack.erp.onRequest(async (): Promise<ErpMood> => {
      const [item] = await stack.items('sync-inventory')
      return item!.attempts === 0 ? { status: 500 } : 'serve'
    })
    const item = await sync(siteId)
    expect(item.attempts).toBe(2)
    expect((await stack.quantities(siteId)).get('S-1')).toBe(5)
    expect(await stack.runs(siteId)).toMatchObject([{ state: 'done' }])
  })

  test('that the ERP keeps failing ends failed with its row, once', async () => {
    await start({ waitsMs: [0] })
    const siteId = await stack.site()
    stack.erp.onRequest(() => ({ status: 500 }))
    const item = await sync(siteId, {}, 'failed')
    expect(item).toMatchObject({ reason: 'out of attempts', attempts: 1 })
    expect(await stack.runs(siteId)).toMatchObject([{ state: 'failed', error: item.lastError }])
    expect(await stack.logs(siteId)).toMatchObject([{ status: 'error', errorMessage: item.lastError }])
  })

  test('waits as long as the ERP asks for, at no attempt', async () => {
    await start()
    const siteId = await stack.site()
    stack.erp.onRequest(() => ({ status: 503, headers: { 'retry-after': '1800' } }))
    const workId = await ask(siteId)
    await eventually(async () => {
      const item = await stack.item(workId)
      expect(item).toMatchObject({ state: 'owed', attempts: 0 })
      const waitMs = item.nextAt.getTime() - Date.now()
      expect(waitMs).toBeGreaterThan(1_500_000)
    })
    expect(stack.erp.requests).toHaveLength(1)
    expect(await stack.runs(siteId)).toMatchObject([{ state: 'running', error: expect.stringContaining('503') }])
  })

  test.each([
    ['a wrong token', { token: 'secret-of-the-erp' }, {}, /401/, 1],
    ['no ERP', {}, { url: null }, /no ERP is set up/, 0],
    ['settings that are wrong', {}, { pageSize: 'many' }, /settings\.erp\.pageSize/, 0],
    ['an address that is guarded', {}, { url: 'http://127.0.0.2:9/' }, /127\.0\.0\.2|refused|loopback/i, 0],
  ])('with %s ends failed in one attempt, and says why once an hour', async (_, erp, settings, words, calls) => {
    await start({ erp })
    const siteId = await stack.site(settings)
    for (let n = 1; n <= 2; n++) {
      expect(await sync(siteId, {}, 'failed')).toMatchObject({ attempts: 1, lastError: expect.stringMatching(words) })
      expect(stack.erp.requests).toHaveLength(calls * n)
      expect(await stack.runs(siteId)).toHaveLength(n)
    }
    expect(await stack.runs(siteId)).toMatchObject([{ state: 'failed' }, { state: 'failed' }])
    expect(await stack.logs(siteId)).toMatchObject([{ status: 'error', errorMessage: expect.stringMatching(words) }])
  })

  test('of a stream that the ERP lacks has nothing to do', async () => {
    await start()
    const siteId = await stack.site({ streams: ['products', 'prices'] })
    expect(await sync(siteId)).toMatchObject({ result: { skipped: expect.stringContaining('inventory') } })
    expect(await stack.runs(siteId)).toEqual([])
  })

  test('of a site that was deleted fails', async () => {
    stack = await createSyncStack({ jobs: ['sync-inventory'] })
    const siteId = await stack.site()
    const workId = await ask(siteId)
    await stack.db.execute(sql`UPDATE website_sites SET deleted_at = now() WHERE id = ${siteId}`)
    stack.work()
    stack.dispatcher.start()
    expect(await ended(workId, 'failed')).toMatchObject({ lastError: 'the site was deleted', attempts: 1 })
    expect(await stack.runs(siteId)).toEqual([])
  })

  test('compares and writes nothing when it is an audit', async () => {
    await start()
    const siteId = await stack.site()
    await stack.products(siteId, 5)
    stack.stock(5, (n) => (n === 2 ? 8 : 0))
    const { result } = await sync(siteId, { mode: 'full', audit: true })
    expect(result).toMatchObject({ drift: { differing: 1 } })
    expect((await stack.quantities(siteId)).get('S-2')).toBe(0)
    expect(await stack.checkpoints(siteId)).toMatchObject([{ checkpoint: null, fullAt: null, drift: 1 }])
    expect(await stack.logs(siteId)).toEqual([])
  })
})

describe('what the ERP no longer knows', () => {
  test('a checkpoint: everything is read', async () => {
    await start()
    const siteId = await stack.site()
    await stack.products(siteId, 3)
    stack.stock(3, () => 5)
    await sync(siteId)
    stack.erp.inventory.change('S-1', { quantity: 6 })
    stack.erp.inventory.expire()
    expect((await sync(siteId)).result).toMatchObject({ mode: 'full', counts: { fetched: 3, updated: 1 } })
    expect((await stack.runs(siteId)).map(({ mode, state }) => [mode, state])).toEqual([
      ['full', 'done'],
      ['incremental', 'abandoned'],
      ['full', 'done'],
    ])
  })

  test('a cursor: it begins anew', async () => {
    await start()
    const siteId = await stack.site({ pageSize: 2 })
    await stack.products(siteId, 6)
    stack.stock(6, (n) => n)
    stack.erp.onRequest(({ n }) => {
      if (n === 3) stack.erp.inventory.expire()
      return 'serve'
    })
    expect((await sync(siteId)).result).toMatchObject({ mode: 'full', counts: { fetched: 6, updated: 6 } })
    expect((await stack.quantities(siteId)).get('S-6')).toBe(6)
  })
})

describe('the brake', () => {
  const zeroMost = (n: number) => (n <= 60 ? 0 : 5)

  test('lets a run write nothing that would empty most of the stock, until it is forced', async () => {
    await start()
    const siteId = await stack.site()
    await stack.products(siteId, 100, 5)
    stack.stock(100, () => 5)
    await sync(siteId)
    const before = await stack.checkpoints(siteId)
    for (let n = 1; n <= 60; n++) stack.erp.inventory.change(`S-${n}`, { quantity: 0 })
    const item = await sync(siteId, {}, 'failed')
    expect(item).toMatchObject({
      attempts: 1,
      lastError: expect.stringMatching(/60 of 100 products \(60 %\) would lose all their stock/),
    })
    expect([...(await stack.quantities(siteId)).values()]).toEqual(Array<number>(100).fill(5))
    expect(await stack.logs(siteId)).toMatchObject([{ status: 'error', errorMessage: item.lastError }])
    expect(await stack.checkpoints(siteId)).toMatchObject([{ checkpoint: before[0]!.checkpoint }])

    await sync(siteId, { force: true })
    const after = await stack.quantities(siteId)
    for (let n = 1; n <= 100; n++) expect(after.get(`S-${n}`)).toBe(zeroMost(n))
  })
})
