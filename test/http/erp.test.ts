import { createHmac, randomUUID } from 'node:crypto'
import { eq, sql } from 'drizzle-orm'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { erpAsks, erpIds, erpPushes, websiteProducts, websiteSites, work } from '../../src/db/schema/index.ts'
import { syncInventory } from '../../src/queues/sync-inventory.ts'
import { syncPrices } from '../../src/queues/sync-prices.ts'
import { syncProducts } from '../../src/queues/sync-products.ts'
import { registerJobs } from '../../src/db/queries/enqueue.ts'
import { addSite, createApi, type ApiFixture } from './api-fixture.ts'

const first = `whsec_${Buffer.from('the first secret of the ERP').toString('base64')}`
const second = `whsec_${Buffer.from('the second secret of the ERP').toString('base64')}`
const jobs = [syncProducts, syncInventory, syncPrices]

let api: ApiFixture
let siteId: number
beforeAll(async () => {
  api = await createApi({ jobs, erpSecret: `${first} ${second}` })
  await registerJobs(api.db, jobs)
})
afterAll(() => api.close())
beforeEach(async () => {
  for (const table of [work, erpAsks, erpPushes, erpIds]) await api.db.delete(table)
  siteId = (await addSite(api.db)).site.id
})

interface Sending {
  id?: string
  secret?: string
  at?: Date
  headers?: Record<string, string>
}

/** Sends a body as an ERP does; without a key. */
function push(body: unknown, { id = randomUUID(), secret = first, at = new Date(), headers = {} }: Sending = {}) {
  const payload = typeof body === 'string' ? body : JSON.stringify(body)
  return api.app.inject({
    method: 'POST',
    url: '/v1/erp/changes',
    payload,
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
      'webhook-signature': new Webhook(secret).sign(id, at, payload),
      ...headers,
    },
  })
}
const asks = async () => (await api.db.select().from(erpAsks).orderBy(erpAsks.id)).map(({ sku }) => sku)
const items = () => api.db.select().from(work).orderBy(work.id)

describe('a push', () => {
  it('of SKUs asks for these, and is rung', async () => {
    const response = await push({ siteId, type: 'inventory', skus: ['A', 'B', 'A'] })
    expect(response.statusCode, response.body).toBe(202)
    const [item] = await items()
    expect(item).toMatchObject({ job: 'sync-inventory', siteId, payload: { siteId, asked: true }, state: 'owed' })
    const href = `/v1/jobs/sync-inventory/${item!.id}`
    expect(response.json()).toEqual({ jobId: String(item!.id), state: 'waiting', href })
    expect(response.headers.location).toBe(href)
    expect(await asks()).toEqual(['A', 'B'])
    expect(api.rung.at(-1)).toMatchObject({ workId: item!.id, job: 'sync-inventory' })
  })

  it('shares one item with those that come before its run begins', async () => {
    const jobIds = []
    for (const sku of ['A', 'B', 'C']) jobIds.push((await push({ siteId, type: 'price', skus: [sku] })).json().jobId)
    expect(new Set(jobIds).size).toBe(1)
    expect(await asks()).toEqual(['A', 'B', 'C'])
  })

  it('of nothing, or of what the shop does not know, is a run over what changed', async () => {
    for (const named of [{}, { skus: [] }, { ids: ['unknown'] }, { skus: ['A'], ids: ['unknown'] }]) {
      expect((await push({ siteId, type: 'product', ...named })).statusCode).toBe(202)
    }
    expect(await items()).toMatchObject([{ job: 'sync-products', payload: { siteId } }])
    expect(await asks()).toEqual([])
  })

  it("of the ERP's ids asks for their SKUs, of stock for those of the variants too", async () => {
    const [product] = await api.db
      .insert(websiteProducts)
      .values({ siteId, sku: 'SHIRT', name: 'Shirt', price: '9.90' })
      .returning()
    await api.db.execute(
      sql`INSERT INTO website_product_variants (product_id, sku) VALUES (${product!.id}, 'SHIRT-S'), (${product!.id}, 'SHIRT-M')`,
    )
    await api.db.insert(erpIds).values({ siteId, entity: 'product', erpId: '00-7', rowId: product!.id })
    await push({ siteId, type: 'product', ids: ['00-7'] })
    expect(await asks()).toEqual(['SHIRT'])
    await push({ siteId, type: 'inventory', ids: ['00-7'] })
    expect((await asks()).toSorted()).toEqual(['SHIRT', 'SHIRT', 'SHIRT-M', 'SHIRT-S'])
  })

  it('finds the site by what the ERP calls it', async () => {
    const name = (siteKey: string) =>
      api.db
        .update(websiteSites)
        .set({ settings: { erp: { siteKey } } })
        .where(eq(websiteSites.id, siteId))
    await name('north')
    await push({ siteKey: 'north', type: 'price', skus: ['A'] })
    expect(await items()).toMatchObject([{ siteId }])
    const unknown = await push({ siteKey: 'south', type: 'price' })
    expect([unknown.statusCode, unknown.json().field]).toEqual([422, 'siteKey'])
    await addSite(api.db)
    await api.db.update(websiteSites).set({ settings: { erp: { siteKey: 'north' } } })
    expect((await push({ siteKey: 'north', type: 'price' })).json().detail).toContain('send siteId')
    await api.db.update(websiteSites).set({ settings: {} })
  })
})

describe('a replay', () => {
  it('gets the same answer and has no effect', async () => {
    const body = { siteId, type: 'inventory', skus: ['A'] }
    const original = await push(body, { id: 'one' })
    const again = await push(body, { id: 'one', at: new Date(Date.now() - 200_000) })
    expect(again.statusCode).toBe(202)
    expect(again.json()).toEqual(original.json())
    expect(again.headers['idempotent-replayed']).toBe('true')
    expect(await asks()).toEqual(['A'])
    await api.db.execute(sql`UPDATE website_worker.work SET state = 'done', finished_at = now()`)
    expect((await push(body, { id: 'one' })).json()).toEqual({ ...original.json(), state: 'completed' })
    expect(await items()).toHaveLength(1)
  })

  it('at the same moment has one effect', async () => {
    const body = { siteId, type: 'inventory', skus: ['A'] }
    const answers = await Promise.all(Array.from({ length: 8 }, () => push(body, { id: 'many' })))
    expect(answers.map(({ statusCode }) => statusCode)).toEqual(Array<number>(8).fill(202))
    expect(new Set(answers.map((each) => each.json().jobId)).size).toBe(1)
    expect(answers.filter(({ headers }) => headers['idempotent-replayed'] === undefined)).toHaveLength(1)
    expect(await asks()).toEqual(['A'])
  })

  it('of the id with something else is a conflict', async () => {
    await push({ siteId, type: 'inventory', skus: ['A'] }, { id: 'one' })
    expect((await push({ siteId, type: 'inventory', skus: ['B'] }, { id: 'one' })).statusCode).toBe(409)
    expect(await asks()).toEqual(['A'])
  })

  it('of one that was refused is taken', async () => {
    expect((await push({ siteId: siteId + 1_000, type: 'price' }, { id: 'one' })).statusCode).toBe(422)
    expect((await push({ siteId, type: 'price' }, { id: 'one' })).statusCode).toBe(202)
  })
})

describe('a signature', () => {
  const body = { siteId: 1, type: 'price' }
  const old = (seconds: number) => ({ at: new Date(Date.now() + seconds * 1_000) })

  it.each([
    ['with another secret', { secret: `whsec_${Buffer.from('somebody else').toString('base64')}` }],
    ['over another id', { headers: { 'webhook-id': 'other' } }],
    ['over another time', { headers: { 'webhook-timestamp': String(Math.floor(Date.now() / 1_000) + 9) } }],
    ['that is too old', old(-310)],
    ['from the future', old(3_000)],
    ['of another scheme', { headers: { 'webhook-signature': 'v1a,AAAA v2,' } }],
    ['that is empty', { headers: { 'webhook-signature': '' } }],
    ['of an id with blanks', { headers: { 'webhook-id': 'a b' } }],
    ['at no time', { headers: { 'webhook-timestamp': 'now' } }],
  ])('%s is refused', async (_, sending) => {
    const response = await push(body, sending)
    expect(response.statusCode).toBe(401)
    expect(response.json()).toMatchObject({ status: 401, title: 'Unauthorized' })
    expect(await api.db.select().from(erpPushes)).toEqual([])
  })

  it('is over the very bytes', async () => {
    const text = `{ "siteId" : ${siteId},\n "type": "price" }`
    expect((await push(text)).statusCode).toBe(202)
    const id = randomUUID()
    const at = new Date()
    const signature = new Webhook(first).sign(id, at, text)
    const tampered = text.replace('price', 'inventory')
    expect((await push(tampered, { id, at, headers: { 'webhook-signature': signature } })).statusCode).toBe(401)
  })

  it('with any of the secrets counts, beside others', async () => {
    expect((await push({ siteId, type: 'price' }, { secret: second })).statusCode).toBe(202)
    const id = randomUUID()
    const at = new Date()
    const signatures = `v1,${'A'.repeat(44)} ${new Webhook(second).sign(id, at, JSON.stringify({ siteId, type: 'price' }))}`
    const sending = { id, at, headers: { 'webhook-signature': signatures } }
    expect((await push({ siteId, type: 'price' }, sending)).statusCode).toBe(202)
  })

  it('is refused when no secret is set, and a key does not replace it', async () => {
    const bare = await createApi({ jobs })
    const response = await bare.send('POST', '/v1/erp/changes', body)
    expect([response.statusCode, response.json().detail]).toEqual([401, expect.stringContaining('ERP_WEBHOOK_SECRET')])
    await bare.close()
  })

  it('with a secret that is no whsec_ uses its bytes', async () => {
    const secret = 'sixteen characters of text'.replaceAll(' ', '-')
    const plain = await createApi({ jobs, erpSecret: secret })
    const { site } = await addSite(plain.db)
    await registerJobs(plain.db, jobs)
    const payload = JSON.stringify({ siteId: site.id, type: 'price' })
    const timestamp = String(Math.floor(Date.now() / 1_000))
    const mac = createHmac('sha256', secret).update(`id.${timestamp}.${payload}`).digest('base64')
    const headers = { 'webhook-id': 'id', 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${mac}` }
    expect((await plain.send('POST', '/v1/erp/changes', payload, headers)).statusCode).toBe(202)
    await plain.close()
  })
})

it.each([
  ['no JSON', '{"siteId":', 400],
  ['an unknown site', { siteId: 2_000_000_000, type: 'price' }, 422],
  ['no site', { type: 'price' }, 422],
  ['a site twice', { siteId: 1, siteKey: 'x', type: 'price' }, 422],
  ['an unknown type', { siteId: 1, type: 'order' }, 422],
  ['an unknown field', { siteId: 1, type: 'price', more: 1 }, 422],
  ['too many SKUs', { siteId: 1, type: 'price', skus: Array<string>(1_001).fill('A') }, 422],
  ['a SKU that can not be stored', { siteId: 1, type: 'price', skus: ['A\u0000'] }, 422],
  ['too much', { siteId: 1, type: 'price', ids: ['x'.repeat(1_100_000)] }, 413],
])('refuses %s, and keeps nothing of it', async (_, body, status) => {
  const response = await push(body)
  expect(response.statusCode, response.body).toBe(status)
  expect(response.headers['content-type']).toContain('problem+json')
  expect(await api.db.select().from(erpPushes)).toEqual([])
  expect(await items()).toEqual([])
})
