import { createHash } from 'node:crypto'
import { eq, sql } from 'drizzle-orm'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  domains,
  events,
  laneLimits,
  lanes,
  webhookHealth,
  websiteSites,
  websiteWebhookDeliveries,
  websiteWebhooks,
  work,
} from '../../src/db/schema/index.ts'
import { eventNames } from '../../src/client/schemas.ts'
import { webhookEvents } from '../../src/db/schema/integrations.ts'
import { acceptEvents } from '../../src/db/queries/events.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { connectAsMainApp, createSite, createWebhook, workOf } from './main-app.ts'

let database: TestDatabase
let mainApp: pg.Pool
let siteId: number
let webhookId: number

beforeAll(async () => {
  database = await createTestDatabase()
  mainApp = await connectAsMainApp(database)
})
afterAll(async () => {
  await mainApp.end()
  await database.drop()
})
beforeEach(async () => {
  const { db } = database
  for (const table of [websiteSites, work, events, domains, webhookHealth]) await db.delete(table)
  siteId = await createSite(db)
  webhookId = await createWebhook(db, siteId)
})

const ledger = () => database.db.select().from(websiteWebhookDeliveries).orderBy(websiteWebhookDeliveries.id)
const emit = (site: number | null, event: string | null, data: string | null, id: string | null = null) =>
  mainApp
    .query<{ id: string }>('SELECT website_worker.emit_event($1, $2, $3::jsonb, $4) AS id', [site, event, data, id])
    .then(({ rows }) => rows[0]!.id)

describe('accept_events', () => {
  test('makes one event, one ledger row and one work item per webhook that wants it', async () => {
    await createWebhook(database.db, siteId, { event: 'order.updated' })
    const second = await createWebhook(database.db, siteId, { targetUrl: 'not a url' })
    const [accepted] = await acceptEvents(database.db, [{ siteId, event: 'order.created', data: { n: 1 } }], {
      rung: true,
    })

    expect(accepted).toMatchObject({ outcome: 'accepted', eventId: expect.stringMatching(/^evt_[0-9a-f]{32}$/) })
    const rows = await ledger()
    const items = await workOf(database.db, 'deliver-webhook')
    expect(rows.map((row) => [row.webhookId, row.eventId, row.attempts, row.deliveredAt])).toEqual([
      [webhookId, accepted!.eventId, 0, null],
      [second, accepted!.eventId, 0, null],
    ])
    expect(items.map((item) => item.label)).toEqual([
      'order.created → receiver.example:8443',
      `order.created → webhook ${second}`,
    ])
    expect(items[0]).toMatchObject({
      key: String(rows[0]!.id),
      siteId,
      payload: { deliveryId: rows[0]!.id },
      state: 'owed',
      trigger: 'event',
      rungAt: items[0]!.nextAt,
    })
    expect(accepted!.deliveries[0]).toEqual({
      id: rows[0]!.id,
      webhookId,
      status: 'pending',
      workId: items[0]!.id,
      generation: 1,
      label: items[0]!.label,
      lane: null,
    })
  })

  test('stores the body as it was written, escapes that jsonb refuses included', async () => {
    const data = { z: 1, a: 'nul \u0000, half a pair \ud800, "ünïcode" \\u0000' }
    const now = new Date('2026-03-04T05:06:07.089Z')
    await acceptEvents(database.db, [{ siteId, event: 'order.created', data, id: 'a' }], { rung: false, now })
    const [event] = await database.db.select().from(events)
    expect(event!.body).toBe(
      JSON.stringify({ type: 'order.created', timestamp: '2026-03-04T05:06:07.089Z', siteId, data }),
    )
    expect(JSON.parse(event!.body!).data).toEqual(data)
  })

  test('takes occurredAt as the timestamp and tells events apart by it', async () => {
    const event = { siteId, event: 'order.created', data: 1, id: 'a' }
    const at = { ...event, occurredAt: '2026-01-01T05:30:00+05:30' }
    const same = { ...event, occurredAt: new Date('2026-01-01T00:00:00Z') }
    const results = await acceptEvents(database.db, [at, same, event], { rung: false })
    expect(results.map((result) => result.outcome)).toEqual(['accepted', 'replayed', 'conflict'])
    const [row] = await database.db.select().from(events)
    expect(JSON.parse(row!.body!).timestamp).toBe('2026-01-01T00:00:00.000Z')
  })

  test('answers a repeat with the same deliveries and nothing to ring', async () => {
    const event = { siteId, event: 'order.created', data: 1, id: 'a' }
    const [first] = await acceptEvents(database.db, [event], { rung: true })
    const [again] = await acceptEvents(database.db, [event], { rung: true })
    expect(again).toEqual({
      outcome: 'replayed',
      eventId: 'a',
      deliveries: [{ ...first!.deliveries[0], workId: null, generation: null }],
    })
    expect(await ledger()).toHaveLength(1)
  })

  test('knows an event whose body was pruned', async () => {
    const event = { siteId, event: 'order.created', data: 1, id: 'a' }
    await acceptEvents(database.db, [event], { rung: true })
    await database.db.update(events).set({ body: null })
    const results = await acceptEvents(database.db, [event, { ...event, data: 2 }], { rung: true })
    expect(results.map((result) => result.outcome)).toEqual(['replayed', 'conflict'])
  })

  test('refuses a site that is unknown or deleted', async () => {
    const deleted = await createSite(database.db, { deletedAt: sql`now()` as never })
    const results = await acceptEvents(
      database.db,
      [deleted, 2_147_483_647].map((id) => ({ siteId: id, event: 'order.created', data: 1 })),
      { rung: true },
    )
    expect(results.map((result) => result.outcome)).toEqual(['unknown_site', 'unknown_site'])
    expect(await database.db.select().from(events)).toEqual([])
  })

  test('holds what a switch or the worker switched off, and owes nothing to what its owner did', async () => {
    const ours = await createWebhook(database.db, siteId, { isActive: false })
    await createWebhook(database.db, siteId, { isActive: false })
    await database.db.insert(webhookHealth).values({ webhookId: ours, disabledAt: new Date() })
    const paused = await createSite(database.db)
    await createWebhook(database.db, paused)
    await database.db.insert(domains).values({ domain: 'webhooks', siteId: paused, enabled: true, paused: true })

    const results = await acceptEvents(
      database.db,
      [siteId, paused].map((id) => ({ siteId: id, event: 'order.created', data: 1 })),
      { rung: true },
    )
    expect(results.map(({ deliveries }) => deliveries.map((delivery) => delivery.status))).toEqual([
      ['pending', 'held'],
      ['held'],
    ])
    const items = await workOf(database.db, 'deliver-webhook')
    expect(items.map((item) => [item.state, item.reason, item.rungAt === null])).toEqual([
      ['owed', null, false],
      ['held', 'webhook disabled', true],
      ['held', 'paused', true],
    ])
  })

  test('owes an event again to a webhook that its owner switched on again', async () => {
    await database.db.insert(webhookHealth).values({ webhookId, disabledAt: new Date() })
    const [accepted] = await acceptEvents(database.db, [{ siteId, event: 'order.created', data: 1 }], { rung: true })
    expect(accepted!.deliveries.map((delivery) => delivery.status)).toEqual(['pending'])
  })

  test('never delivers an event twice, even when its own record is gone', async () => {
    const event = { siteId, event: 'order.created', data: 1, id: 'a' }
    await acceptEvents(database.db, [event], { rung: true })
    await database.db.delete(events)
    const [again] = await acceptEvents(database.db, [event], { rung: true })
    expect(again).toMatchObject({ outcome: 'accepted', deliveries: [] })
    expect(await ledger()).toHaveLength(1)
    expect(await workOf(database.db, 'deliver-webhook')).toHaveLength(1)
  })

  test('refuses an event that is too large before anything is written', async () => {
    const large = { siteId, event: 'order.created', data: 'x'.repeat(262_144) }
    await expect(acceptEvents(database.db, [{ ...large, data: 1 }, large], { rung: true })).rejects.toMatchObject({
      code: 'too_large',
      field: 'events.1.data',
    })
    expect(await ledger()).toEqual([])
  })
})

describe('emit_event', () => {
  test('commits with the transaction of a role without any grant, in UTC', async () => {
    const client = await mainApp.connect()
    try {
      await client.query(
        "SET standard_conforming_strings = off; SET DateStyle = 'German'; SET search_path = pg_temp; BEGIN",
      )
      await client.query(`SELECT website_worker.emit_event(${siteId}, 'order.created', '{"b": 1, "a": [2]}', 'e1')`)
      expect(await ledger()).toEqual([])
      await client.query('COMMIT')
    } finally {
      client.release(true)
    }
    const [event] = await database.db.select().from(events)
    const [row] = await ledger()
    const [item] = await workOf(database.db, 'deliver-webhook')
    expect(event!.body).toBe(
      `{"type":"order.created","timestamp":"${event!.createdAt.toISOString()}","siteId":${siteId},"data":{"a": [2], "b": 1}}`,
    )
    expect(event!.hash).toBe(createHash('sha256').update('order.created\n\n{"a": [2], "b": 1}').digest('hex'))
    expect(Math.abs(event!.createdAt.getTime() - Date.now())).toBeLessThan(60_000)
    expect(item).toMatchObject({ key: String(row!.id), state: 'owed', rungAt: null, nextAt: event!.createdAt })
    const { rows } = await database.pool.query(
      `SELECT d.created_at = e.created_at AT TIME ZONE 'UTC' AS utc
       FROM website_webhook_deliveries d, website_worker.events e`,
    )
    expect(rows).toEqual([{ utc: true }])
  })

  test('leaves nothing behind a transaction that is rolled back', async () => {
    const client = await mainApp.connect()
    await client.query('BEGIN')
    await client.query("SELECT website_worker.emit_event($1, 'order.created', '{}')", [siteId])
    await client.query('ROLLBACK')
    client.release()
    expect(await database.db.select().from(events)).toEqual([])
    expect(await ledger()).toEqual([])
    expect(await workOf(database.db, 'deliver-webhook')).toEqual([])
  })

  test('returns the id of a repeat without effect, and refuses other content under it', async () => {
    expect(await emit(siteId, 'order.created', '{"a": 1}', 'e1')).toBe('e1')
    expect(await emit(siteId, 'order.created', '{"a": 1}', 'e1')).toBe('e1')
    await expect(emit(siteId, 'order.created', '{"a": 2}', 'e1')).rejects.toMatchObject({ code: '23505', column: 'id' })
    expect(await ledger()).toHaveLength(1)
  })

  test('takes every event that a webhook may listen to, and JSON null as data', async () => {
    expect([...eventNames]).toEqual([...webhookEvents])
    for (const name of eventNames) expect(await emit(siteId, name, 'null')).toMatch(/^evt_/)
  })

  test('names what is wrong with its arguments', async () => {
    const invalid = (column: string, message: RegExp) => ({
      code: '22023',
      column,
      message: expect.stringMatching(message),
    })
    await expect(emit(2_000_000_000, 'order.created', '1')).rejects.toMatchObject(invalid('site_id', /2000000000/))
    await expect(emit(null, 'order.created', '1')).rejects.toMatchObject(invalid('site_id', /required/))
    await expect(emit(siteId, 'order.eaten', '1')).rejects.toMatchObject(
      invalid('event', /'order.eaten' is unknown.*order\.created, .*customer\.created/),
    )
    await expect(emit(siteId, null, '1')).rejects.toMatchObject(invalid('event', /null/))
    await expect(emit(siteId, 'order.created', null)).rejects.toMatchObject(invalid('data', /required/))
    for (const id of ['', 'a b', 'a\n', 'é', 'x'.repeat(256)]) {
      await expect(emit(siteId, 'order.created', '1', id)).rejects.toMatchObject(invalid('id', /id '/))
    }
    const large = JSON.stringify('x'.repeat(262_144))
    await expect(emit(siteId, 'order.created', large)).rejects.toMatchObject(invalid('data', /too large/))
    expect(await database.db.select().from(events)).toEqual([])
  })

  test('opens nothing else of ours to that role', async () => {
    for (const statement of [
      'SELECT FROM website_worker.work',
      'SELECT FROM website_worker.events',
      'DELETE FROM website_worker.jobs',
      "SELECT website_worker.accept_events('{1}', '{a}', '{order.created}', '{}', '{}', false, true)",
      "SELECT website_worker.enqueue_item('maintain', '{}', false, 'request')",
    ]) {
      await expect(mainApp.query(statement)).rejects.toMatchObject({ code: '42501' })
    }
  })

  test('works for an event of a site made in the same transaction', async () => {
    const client = await mainApp.connect()
    await client.query('BEGIN')
    const { rows } = await client.query(
      "INSERT INTO website_sites (name, domain) VALUES ('New', 'new.example') RETURNING id",
    )
    await client.query("SELECT website_worker.emit_event($1, 'customer.created', '{}', 'e1')", [rows[0].id])
    await client.query('COMMIT')
    client.release()
    expect(await database.db.select().from(events).where(eq(events.siteId, rows[0].id))).toHaveLength(1)
  })
})

describe('an event for an origin where others wait', () => {
  const origin = 'https://receiver.example:8443'
  const accept = async () =>
    (await acceptEvents(database.db, [{ siteId, event: 'order.created', data: {} }], { rung: true }))[0]!
  const one = async () => (await workOf(database.db, 'deliver-webhook')).at(-1)!
  beforeEach(async () => {
    for (const table of [lanes, laneLimits]) await database.db.delete(table)
  })

  test('waits with them: its work has no id that anyone could ring', async () => {
    await database.db.insert(lanes).values({ lane: origin, window: 8 })
    const { deliveries } = await accept()
    expect(deliveries).toMatchObject([{ webhookId, status: 'pending', workId: null }])
    expect(await one()).toMatchObject({ state: 'owed', lane: origin, rungAt: null, attempts: 0 })
  })

  test('emitted in SQL waits with them too', async () => {
    await database.db.insert(lanes).values({ lane: origin, window: 8 })
    await emit(siteId, 'order.created', '{}')
    expect(await one()).toMatchObject({ lane: origin, rungAt: null })
  })

  test('keeps no other webhook of the event waiting', async () => {
    await createWebhook(database.db, siteId, { targetUrl: 'https://other.example/' })
    await database.db.insert(lanes).values({ lane: origin, window: 8 })
    const { deliveries } = await accept()
    expect(deliveries.map(({ workId }) => workId === null)).toEqual([true, false])
    expect(await one()).toMatchObject({ lane: null, rungAt: expect.anything() })
  })

  test.each([
    ['its own limit', { lane: origin, maxConcurrent: 2 }, origin],
    ['its own rate', { lane: origin, requestsPerSecond: 0.5 }, origin],
    ['a limit for all', { lane: '*', maxConcurrent: 2 }, origin],
    ['a limit of nothing', { lane: origin }, null],
    ['a limit of another', { lane: 'https://receiver.example', maxConcurrent: 1 }, null],
  ])('has %s', async (_, limit, lane) => {
    await database.db.insert(laneLimits).values(limit)
    await accept()
    expect(await one()).toMatchObject({ lane })
  })

  test('is free of a limit for all by one of its own that sets nothing', async () => {
    await database.db.insert(laneLimits).values([{ lane: '*', maxConcurrent: 2 }, { lane: origin }])
    await accept()
    expect(await one()).toMatchObject({ lane: null })
  })

  test('of a webhook that we disabled is held, as without a lane', async () => {
    await database.db.insert(lanes).values({ lane: origin, window: 8 })
    await database.db.update(websiteWebhooks).set({ isActive: false }).where(eq(websiteWebhooks.id, webhookId))
    await database.db.insert(webhookHealth).values({ webhookId, disabledAt: new Date() })
    expect((await accept()).deliveries).toMatchObject([{ status: 'held' }])
    expect(await one()).toMatchObject({ state: 'held' })
  })

  test('with a URL that has no origin is rung like any other', async () => {
    await createWebhook(database.db, siteId, { event: 'order.updated', targetUrl: 'http:/odd.example' })
    await acceptEvents(database.db, [{ siteId, event: 'order.updated', data: {} }], { rung: true })
    expect(await one()).toMatchObject({ lane: null, rungAt: expect.anything() })
  })
})
