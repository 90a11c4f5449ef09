import { sql } from 'drizzle-orm'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase } from '../../src/db/client.ts'
import { acceptEvents, type NewEvent } from '../../src/db/queries/events.ts'
import { domains, webhookHealth, websiteSites } from '../../src/db/schema/index.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { createSite, createWebhook } from './main-app.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

async function count(query: ReturnType<typeof sql>): Promise<number> {
  const { rows } = await database.db.execute<{ count: string }>(query)
  return Number(rows[0]!.count)
}

const ledgerRows = (site: number, prefix: string) =>
  count(sql`SELECT count(*) FROM website_webhook_deliveries d JOIN website_webhooks w ON w.id = d.webhook_id
            WHERE w.site_id = ${site} AND starts_with(d.event_id, ${prefix})`)
const workRows = (site: number) => count(sql`SELECT count(*) FROM website_worker.work WHERE site_id = ${site}`)

/** How many calls of accept_events wait for another transaction. */
const blocked = () =>
  count(sql`SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%accept_events%'`)

test('accepts any batches as one event after the other would be', async () => {
  const { db } = database
  const [busy, paused, plain, deleted] = await Promise.all([1, 2, 3, 4].map(() => createSite(db)))
  await db
    .update(websiteSites)
    .set({ deletedAt: sql`now()` as never })
    .where(sql`id = ${deleted}`)
  await db.insert(domains).values({ domain: 'webhooks', siteId: paused!, enabled: true, paused: true })
  await createWebhook(db, busy!)
  await createWebhook(db, busy!)
  await createWebhook(db, busy!, { event: 'order.updated' })
  await createWebhook(db, busy!, { isActive: false })
  const ours = await createWebhook(db, busy!, { isActive: false })
  await db.insert(webhookHealth).values({ webhookId: ours, disabledAt: new Date() })
  await createWebhook(db, paused!)
  await createWebhook(db, deleted!)
  const expected: Record<string, string[]> = {
    [`${busy} order.created`]: ['pending', 'pending', 'held'],
    [`${busy} order.updated`]: ['pending'],
    [`${paused} order.created`]: ['held'],
  }

  let run = 0
  const event = fc.record({
    siteId: fc.constantFrom(busy!, busy!, paused!, plain!, deleted!, 1_000_000),
    event: fc.constantFrom('order.created', 'order.updated', 'payment.failed'),
    data: fc.constantFrom<unknown>(1, { a: [null, '\u0000'] }),
    id: fc.option(fc.constantFrom('a', 'b', 'c', 'd'), { nil: undefined }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(event, { maxLength: 12 }), { maxLength: 4 }), async (batches) => {
      const prefix = `r${run++}_`
      const known = new Map<string, { content: string; ids: number[] }>()
      for (const batch of batches) {
        const events: NewEvent[] = batch.map((e) => ({ ...e, id: e.id && prefix + e.id }))
        const results = await acceptEvents(db, events, { rung: true })
        expect(results).toHaveLength(events.length)
        results.forEach((result, index) => {
          const { siteId, id, event: name, data } = events[index]!
          if (siteId === deleted || siteId === 1_000_000) {
            expect(result).toMatchObject({ outcome: 'unknown_site', deliveries: [] })
            return
          }
          const key = `${siteId} ${result.eventId}`
          const content = JSON.stringify([name, data])
          const before = known.get(key)
          if (id !== undefined) expect(result.eventId).toBe(id)
          if (before && before.content !== content) {
            expect(result).toMatchObject({ outcome: 'conflict', deliveries: [] })
            return
          }
          expect(result.outcome).toBe(before ? 'replayed' : 'accepted')
          expect(result.deliveries.map((d) => d.status)).toEqual(expected[`${siteId} ${name}`] ?? [])
          expect(result.deliveries.every((d) => (d.workId === null) === (before !== undefined))).toBe(true)
          const ids = result.deliveries.map((d) => d.id)
          if (before) expect(ids).toEqual(before.ids)
          else known.set(key, { content, ids })
        })
      }
      const made = [...known.values()].flatMap((k) => k.ids)
      expect(new Set(made).size).toBe(made.length)
    }),
    { numRuns: 60 },
  )
  const twice = await count(
    sql`SELECT count(*) FROM (SELECT FROM website_webhook_deliveries GROUP BY webhook_id, event_id HAVING count(*) > 1) d`,
  )
  expect(twice).toBe(0)
})

test('accepts an event once however many connections send it at once', async () => {
  const siteId = await createSite(database.db)
  await createWebhook(database.db, siteId)
  await createWebhook(database.db, siteId)
  const connections = Array.from({ length: 8 }, () => createDatabase({ url: database.url, max: 1 }))
  try {
    for (let round = 0; round < 10; round++) {
      const id = `once_${round}`
      const results = await Promise.all(
        connections.map(({ db }) =>
          acceptEvents(db, [{ siteId, event: 'order.created', data: 1, id }], { rung: false }),
        ),
      )
      const outcomes = results.map(([result]) => result!.outcome).toSorted()
      expect(outcomes).toEqual(['accepted', ...Array.from({ length: 7 }, () => 'replayed')])
      const ids = results.map(([result]) => result!.deliveries.map((d) => d.id).join())
      expect(new Set(ids).size).toBe(1)
    }
    expect(await ledgerRows(siteId, 'once_')).toBe(20)
    expect(await workRows(siteId)).toBe(20)
  } finally {
    await Promise.all(connections.map((connection) => connection.close()))
  }
})

test('accepts overlapping batches in any order without a deadlock', async () => {
  const siteId = await createSite(database.db)
  await createWebhook(database.db, siteId)
  const connections = Array.from({ length: 8 }, () => createDatabase({ url: database.url, max: 1 }))
  try {
    const ids = Array.from({ length: 60 }, (_, index) => `mixed_${index}`)
    const results = await Promise.all(
      connections.map(({ db }, seed) => {
        const order = ids.toSorted((a, b) => hash(a, seed) - hash(b, seed)).slice(0, 50)
        return acceptEvents(
          db,
          order.map((id) => ({ siteId, event: 'order.created', data: 1, id })),
          { rung: false },
        )
      }),
    )
    const accepted = results.flat().filter((result) => result.outcome === 'accepted')
    expect(results.flat().filter((result) => result.outcome === 'replayed')).toHaveLength(400 - accepted.length)
    expect(await ledgerRows(siteId, 'mixed_')).toBe(accepted.length)
    const { rows } = await database.db.execute(
      sql`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`,
    )
    expect(Number(rows[0]!['deadlocks'])).toBe(0)
  } finally {
    await Promise.all(connections.map((connection) => connection.close()))
  }
})

test('waits for a transaction that emits the same event, and takes over when it is rolled back', async () => {
  const siteId = await createSite(database.db)
  await createWebhook(database.db, siteId)
  const event = { siteId, event: 'order.created', data: 1, id: 'pending' }
  const client = await database.pool.connect()
  await client.query('BEGIN')
  await client.query("SELECT website_worker.emit_event($1, 'order.created', '1', 'pending')", [siteId])
  const waiting = acceptEvents(database.db, [event], { rung: true })
  await expect.poll(blocked, { interval: 10 }).toBe(1)
  await client.query('ROLLBACK')
  client.release()
  expect(await waiting).toMatchObject([{ outcome: 'accepted', deliveries: [{ status: 'pending' }] }])
  expect(await workRows(siteId)).toBe(1)
})

test('leaves out a webhook that is being deleted', async () => {
  const siteId = await createSite(database.db)
  const webhookId = await createWebhook(database.db, siteId)
  const client = await database.pool.connect()
  await client.query('BEGIN')
  await client.query('DELETE FROM website_webhooks WHERE id = $1', [webhookId])
  const waiting = acceptEvents(database.db, [{ siteId, event: 'order.created', data: 1 }], { rung: true })
  await expect.poll(blocked, { interval: 10 }).toBe(1)
  await client.query('COMMIT')
  client.release()
  expect(await waiting).toMatchObject([{ outcome: 'accepted', deliveries: [] }])
})

test('leaves out what a locked webhook is for, and waits for nothing, where it is told not to wait', async () => {
  const [locked, free] = await Promise.all([createSite(database.db), createSite(database.db)])
  const webhookId = await createWebhook(database.db, locked)
  await createWebhook(database.db, free)
  const event = { event: 'order.created', data: 1 }
  await acceptEvents(database.db, [{ ...event, siteId: locked, id: 'known' }], { rung: true })
  const client = await database.pool.connect()
  await client.query('BEGIN')
  await client.query('SELECT FROM website_webhooks WHERE id = $1 FOR UPDATE', [webhookId])
  const events = [
    { ...event, siteId: locked, id: 'x' },
    { ...event, siteId: free, id: 'x' },
    { ...event, siteId: locked, event: 'order.updated' },
    { ...event, siteId: locked, id: 'known' },
    { ...event, siteId: locked, id: 'known', data: 2 },
    { ...event, siteId: locked, id: 'twice' },
    { ...event, siteId: locked, id: 'twice', event: 'order.updated' },
    { ...event, siteId: 1_000_000 },
  ]
  const outcomes = async () =>
    (await acceptEvents(database.db, events, { rung: true, wait: false })).map((result) => result.outcome)
  const elsewhere = ['accepted', 'accepted', 'replayed', 'conflict', 'conflict', 'accepted', 'unknown_site']
  expect(await outcomes()).toEqual(['locked', ...elsewhere])
  expect(await ledgerRows(locked, 'x')).toBe(0)
  await client.query('ROLLBACK')
  client.release()
  const [first, second] = await outcomes()
  expect([first, second]).toEqual(['accepted', 'replayed'])
  expect(await ledgerRows(locked, 'x')).toBe(1)
})

test('accepts 2,000 events in two batches quickly', async () => {
  const siteId = await createSite(database.db)
  await createWebhook(database.db, siteId)
  await createWebhook(database.db, siteId)
  const took: number[] = []
  for (let batch = 0; batch < 2; batch++) {
    const events = Array.from({ length: 1000 }, (_, n) => ({
      siteId,
      event: 'order.created',
      data: { order: n, lines: 'x'.repeat(500) },
      id: `batch_${batch}_${n}`,
    }))
    const started = performance.now()
    await acceptEvents(database.db, events, { rung: true })
    took.push(Math.round(performance.now() - started))
  }
  console.log(`1,000 events to 2 webhooks each: ${took.join(' ms, ')} ms`)
  expect(await ledgerRows(siteId, 'batch_')).toBe(4000)
  expect(await workRows(siteId)).toBe(4000)
})

function hash(text: string, seed: number): number {
  let value = seed + 1
  for (const character of text) value = (Math.imul(value, 31) + character.charCodeAt(0)) % 1_000_003
  return Math.imul(value, 2_654_435_761) >>> 0
}
