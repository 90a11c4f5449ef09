import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createClient } from '../../src/client/index.ts'
import { syncQuarantine, syncRuns } from '../../src/db/schema/index.ts'
import { addSite, createApi, secrets, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let siteId: number
beforeAll(async () => {
  api = await createApi()
  siteId = (await addSite(api.db)).site.id
  const other = (await addSite(api.db)).site.id
  const run = (n: number, values: Partial<typeof syncRuns.$inferInsert> = {}): typeof syncRuns.$inferInsert => ({
    siteId,
    type: 'product',
    mode: 'full',
    state: 'done',
    workId: n,
    token: crypto.randomUUID(),
    leaseUntil: new Date(),
    source: 'https://erp.example/?token=secret',
    staged: n,
    finishedAt: new Date(),
    ...values,
  })
  await api.db.insert(syncRuns).values([
    ...Array.from({ length: 60 }, (_, n) => run(n + 1)),
    run(61, { type: 'price', state: 'failed', error: 'the ERP said no', options: { force: true }, rejected: 2 }),
    run(62, {
      type: 'inventory',
      state: 'running',
      phase: 'applying',
      options: { audit: true, skus: ['A'] },
      finishedAt: null,
    }),
    run(63, { siteId: other }),
  ])
  const bad = { siteId, type: 'product', entity: 'product' as const, reason: 'price: is negative' }
  await api.db.insert(syncQuarantine).values([
    { ...bad, key: '1', erpId: '1', sku: 'S-1', snapshot: { price: '-1' } },
    { ...bad, key: '2', erpId: '2', resolvedAt: new Date() },
    { ...bad, key: 'x', entity: 'variant', sku: 'S-3' },
    { ...bad, siteId: other, key: '1' },
  ])
})
afterAll(() => api.close())

const get = async (path: string) => {
  const response = await api.send('GET', path)
  expect(response.statusCode, response.body).toBe(200)
  return response.json()
}

it('lists the runs of a site, newest first, without where they read from', async () => {
  const { items, nextCursor } = await get(`/v1/sites/${siteId}/sync-runs?limit=2`)
  expect(items).toEqual([
    {
      id: 62,
      type: 'inventory',
      mode: 'full',
      status: 'running',
      phase: 'applying',
      audit: true,
      force: false,
      fetched: 62,
      rejected: 0,
      counts: {},
      error: null,
      jobId: '62',
      startedAt: expect.any(String),
      finishedAt: null,
    },
    expect.objectContaining({
      id: 61,
      status: 'failed',
      error: 'the ERP said no',
      force: true,
      audit: false,
      rejected: 2,
    }),
  ])
  const next = await get(`/v1/sites/${siteId}/sync-runs?limit=2&cursor=${nextCursor}`)
  expect(next.items.map(({ id }: { id: number }) => id)).toEqual([60, 59])
})

it('lists those of one stream or state', async () => {
  const ids = async (query: string) =>
    (await get(`/v1/sites/${siteId}/sync-runs?${query}`)).items.map(({ id }: { id: number }) => id)
  expect(await ids('type=price')).toEqual([61])
  expect(await ids('status=running')).toEqual([62])
  expect(await ids('type=price&status=done')).toEqual([])
  expect(await ids('status=done')).toHaveLength(50)
})

it('lists what can not be taken, until it is resolved', async () => {
  const { items, nextCursor } = await get(`/v1/sites/${siteId}/quarantine`)
  const times = { firstSeenAt: expect.any(String), lastSeenAt: expect.any(String) }
  expect(items).toEqual([
    {
      id: 3,
      type: 'product',
      entity: 'variant',
      erpId: null,
      sku: 'S-3',
      reason: 'price: is negative',
      snapshot: null,
      ...times,
    },
    {
      id: 1,
      type: 'product',
      entity: 'product',
      erpId: '1',
      sku: 'S-1',
      reason: 'price: is negative',
      snapshot: { price: '-1' },
      ...times,
    },
  ])
  expect(nextCursor).toBeNull()
  const first = await get(`/v1/sites/${siteId}/quarantine?limit=1`)
  const second = await get(`/v1/sites/${siteId}/quarantine?limit=1&cursor=${first.nextCursor}`)
  expect([first, second].map((page) => page.items[0].id)).toEqual([3, 1])
})

it('goes on at ids beyond an INTEGER', async () => {
  await api.db.execute(
    sql`INSERT INTO website_worker.sync_runs (id, site_id, type, mode, state, work_id, token, lease_until, source)
        OVERRIDING SYSTEM VALUE
        SELECT 5000000000 + n, ${siteId}, 'price', 'full', 'abandoned', 1, gen_random_uuid(), now(), '' FROM generate_series(1, 2) n`,
  )
  const { nextCursor } = await get(`/v1/sites/${siteId}/sync-runs?status=abandoned&limit=1`)
  const next = await get(`/v1/sites/${siteId}/sync-runs?status=abandoned&limit=1&cursor=${nextCursor}`)
  expect(next.items).toMatchObject([{ id: 5_000_000_001 }])
  await api.db.execute(sql`DELETE FROM website_worker.sync_runs WHERE state = 'abandoned'`)
})

it.each([
  ['sync-runs?type=order', 422],
  ['sync-runs?status=pending', 422],
  ['sync-runs?cursor=x', 422],
  ['quarantine?limit=0', 422],
  ['quarantine?status=done', 422],
])('refuses %s', async (path, status) => {
  expect((await api.send('GET', `/v1/sites/${siteId}/${path}`)).statusCode).toBe(status)
})

it('knows no other site', async () => {
  for (const path of ['sync-runs', 'quarantine'])
    expect((await api.send('GET', `/v1/sites/999999/${path}`)).statusCode).toBe(404)
})

it('is read page by page by the client', async () => {
  const url = await api.app.listen({ host: '127.0.0.1', port: 0 })
  const client = createClient({ url, apiKey: secrets.both })
  const runs = []
  for await (const run of client.listSyncRuns({ siteId })) runs.push(run.id)
  expect(runs).toEqual(Array.from({ length: 62 }, (_, n) => 62 - n))
  const priced = []
  for await (const run of client.listSyncRuns({ siteId, type: 'price', status: 'failed' })) priced.push(run.jobId)
  expect(priced).toEqual(['61'])
  const bad = []
  for await (const { sku, reason } of client.listQuarantine(siteId)) bad.push([sku, reason])
  expect(bad).toEqual([
    ['S-3', 'price: is negative'],
    ['S-1', 'price: is negative'],
  ])
})
