import { inArray } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createDatabase, type Database } from '../../src/db/client.ts'
import { events } from '../../src/db/schema/worker.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { addSite, createApi, type ApiFixture } from './api-fixture.ts'

let database: TestDatabase
let pool: Database
let api: ApiFixture
let transactions: { end(): Promise<void> }[]

beforeEach(async () => {
  transactions = []
  database = await createTestDatabase()
  pool = createDatabase({ url: database.url, max: 20, lockTimeoutMs: 500 })
  api = await createApi({ db: pool.db })
})
afterEach(async () => {
  for (const transaction of transactions) await transaction.end()
  await api.close()
  await pool.close()
  await database.drop()
})

/** A transaction of the main app's that did this and stays open. */
async function begin(statement: string) {
  const client = await database.pool.connect()
  await client.query('BEGIN')
  await client.query(statement)
  let open = true
  const transaction = {
    async end() {
      if (open) await client.query('COMMIT')
      if (open) client.release()
      open = false
    },
  }
  transactions.push(transaction)
  return transaction
}

async function addShop() {
  const { site, webhooks } = await addSite(database.db, ['order.created'])
  return { siteId: site.id, webhookId: webhooks[0]!.id, event: { siteId: site.id, event: 'order.created', data: 1 } }
}

// The locks are held until a test ends them: whatever is answered meanwhile was answered in spite of them.
const post = async (body: object) => {
  const response = await api.send('POST', '/v1/events', body)
  return { status: response.statusCode, response }
}
const times = <T>(count: number, make: (n: number) => T) => Array.from({ length: count }, (_, n) => make(n))

describe.each([
  ['locks', (id: number) => `SELECT FROM website_webhooks WHERE id = ${id} FOR UPDATE`],
  ['deletes', (id: number) => `DELETE FROM website_webhooks WHERE id = ${id}`],
])('while a transaction %s a webhook', (_, statement) => {
  it('accepts the events of the others, and answers those of its own with 503', async () => {
    const [locked, free] = await Promise.all([addShop(), addShop()])
    await begin(statement(locked.webhookId))
    const stuck = times(400, () => post(locked.event))
    const others = await Promise.all(times(400, () => post(free.event)))
    expect(new Set(others.map(({ status }) => status))).toEqual(new Set([202]))
    for (const { status, response } of await Promise.all(stuck)) {
      expect([status, response.headers['content-type']]).toEqual([503, expect.stringContaining('problem+json')])
      expect(response.headers['retry-after']).toBe('2')
      expect(response.json().detail).toMatch(/locked by another transaction/)
    }
    const { siteId } = locked
    expect(
      await database.db
        .select()
        .from(events)
        .where(inArray(events.siteId, [siteId])),
    ).toEqual([])
  })

  it('accepts its events when it ends in time', async () => {
    const locked = await addShop()
    const transaction = await begin(statement(locked.webhookId))
    const stuck = Promise.all(times(100, () => post(locked.event)))
    await vi.waitFor(async () => expect((await post({ ...locked.event, event: 'order.updated' })).status).toBe(202))
    await transaction.end()
    expect(new Set((await stuck).map(({ status }) => status))).toEqual(new Set([202]))
  })
})

it('tells for each event of a batch what became of it', async () => {
  const [locked, free] = await Promise.all([addShop(), addShop()])
  await begin(`DELETE FROM website_webhooks WHERE id = ${locked.webhookId}`)
  const response = await api.send('POST', '/v1/events/batch', { events: [free.event, locked.event, free.event] })
  const { results } = response.json() as { results: { status: number; outcome: string }[] }
  expect(results.map(({ status, outcome }) => [status, outcome])).toEqual([
    [202, 'accepted'],
    [503, 'unavailable'],
    [202, 'accepted'],
  ])
})

it('accepts the events of the others while transactions emit some of the same', async () => {
  const [busy, free] = await Promise.all([addShop(), addShop()])
  const emitted = times(6, (n) => `e${n}`)
  for (const id of emitted)
    await begin(`SELECT website_worker.emit_event(${busy.siteId}, 'order.created', '1', '${id}')`)
  for (let round = 0; round < 2; round++) {
    const same = emitted.map((id) => post({ ...busy.event, id }))
    const others = await Promise.all(times(200, () => post(free.event)))
    expect(new Set(others.map(({ status }) => status))).toEqual(new Set([202]))
    expect((await Promise.all(same)).map(({ status }) => status)).toEqual(emitted.map(() => 503))
  }
  for (const transaction of transactions) await transaction.end()
  // Its own answer, whichever way the data was written.
  expect([202, 409]).toContain((await post({ ...busy.event, id: 'e0' })).status)
})

it('answers with 503 while a whole table is locked, and accepts afterwards', async () => {
  const shop = await addShop()
  const transaction = await begin('LOCK TABLE website_webhook_deliveries IN ACCESS EXCLUSIVE MODE')
  const answers = await Promise.all(times(1_000, () => post(shop.event)))
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([503]))
  await transaction.end()
  expect((await post(shop.event)).status).toBe(202)
}, 20_000)
