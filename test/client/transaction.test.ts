import { drizzle } from 'drizzle-orm/node-postgres'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { emitEvent, enqueue, type EmittedEvent } from '../../src/client/index.ts'
import { registerJobs } from '../../src/db/queries/enqueue.ts'
import { events, websiteSites, work } from '../../src/db/schema/index.ts'
import { connectAsMainApp, createSite, createWebhook, workOf } from '../db/main-app.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
let mainApp: pg.Pool
let siteId: number

beforeAll(async () => {
  database = await createTestDatabase()
  mainApp = await connectAsMainApp(database)
  await registerJobs(database.db, [
    {
      name: 'sync-products',
      domain: 'erp',
      schema: undefined as never,
      key: ['siteId'],
      subject: { field: 'siteId', table: 'website_sites' },
      retry: { waitsMs: [0] },
      worker: { concurrency: 1 },
    },
  ])
})
afterAll(async () => {
  await mainApp.end()
  await database.drop()
})
beforeEach(async () => {
  for (const table of [websiteSites, work, events]) await database.db.delete(table)
  siteId = await createSite(database.db)
  await createWebhook(database.db, siteId)
})

const accepted = () => database.db.select().from(events)

describe('with a Drizzle transaction', () => {
  test('emits and enqueues on commit', async () => {
    const data = { text: `O'Neil \\u0000 "ünïcode" ${'\u{1F600}'}`, list: [1, null], none: undefined }
    const [eventId, jobId] = await drizzle(mainApp).transaction(async (tx) => [
      await emitEvent(tx, { siteId, event: 'order.created', data, id: 'e1' }),
      await enqueue(tx, 'sync-products', { siteId }),
    ])
    expect(eventId).toBe('e1')
    const [event] = await accepted()
    expect(JSON.parse(event!.body!)).toMatchObject({
      type: 'order.created',
      siteId,
      data: JSON.parse(JSON.stringify(data)),
    })
    expect(await workOf(database.db, 'deliver-webhook')).toMatchObject([{ state: 'owed', rungAt: null, siteId }])
    expect(await workOf(database.db, 'sync-products')).toMatchObject([{ id: jobId, payload: { siteId } }])
  })

  test('leaves nothing behind a rollback', async () => {
    const rolledBack = drizzle(mainApp).transaction(async (tx) => {
      await emitEvent(tx, { siteId, event: 'order.created', data: 1 })
      await enqueue(tx, 'sync-products', { siteId })
      throw new Error('changed my mind')
    })
    await expect(rolledBack).rejects.toThrow('changed my mind')
    expect(await accepted()).toEqual([])
    expect(await database.db.select().from(work)).toEqual([])
  })

  test('works outside of a transaction too, and makes an id', async () => {
    expect(await emitEvent(drizzle(mainApp), { siteId, event: 'order.created', data: null })).toMatch(
      /^evt_[0-9a-f]{32}$/,
    )
    expect(await accepted()).toHaveLength(1)
  })
})

describe('with node-postgres', () => {
  test('emits and enqueues on commit, and leaves nothing behind a rollback', async () => {
    const client = await mainApp.connect()
    for (const end of ['ROLLBACK', 'COMMIT']) {
      await client.query('BEGIN')
      expect(await emitEvent(client, { siteId, event: 'order.created', data: [1], id: end })).toBe(end)
      expect(await enqueue(client, 'sync-products', { siteId })).toEqual(expect.any(Number))
      await client.query(end)
    }
    client.release()
    expect(await accepted()).toMatchObject([{ id: 'COMMIT' }])
    expect(await workOf(database.db, 'sync-products')).toHaveLength(1)
  })

  test('takes a pool', async () => {
    await emitEvent(mainApp, { siteId, event: 'order.created', data: 'x', id: 'e1' })
    expect(await accepted()).toMatchObject([{ id: 'e1' }])
  })
})

test('refuses an invalid event before it touches the transaction', async () => {
  const untouched = {
    query: () => {
      throw new Error('touched')
    },
  }
  const valid: EmittedEvent = { siteId, event: 'order.created', data: 1 }
  for (const [field, event] of [
    ['siteId', { ...valid, siteId: 2 ** 31 }],
    ['event', { ...valid, event: 'order.eaten' }],
    ['data', { siteId, event: 'order.created' }],
    ['data', { ...valid, data: () => {} }],
    ['data', { ...valid, data: { a: ['\u0000'] } }],
    ['data', { ...valid, data: '\\\ud800' }],
    ['data', { ...valid, data: { '\udfff': 1 } }],
    ['id', { ...valid, id: 'a b' }],
    [undefined, { ...valid, occurredAt: '2026-01-01T00:00:00Z' }],
  ] as const) {
    await expect(emitEvent(untouched, event as EmittedEvent)).rejects.toMatchObject({ code: 'invalid', field })
  }
  await expect(enqueue(untouched, 'sync-products', { note: '\u0000' })).rejects.toMatchObject({ field: 'payload' })
})

test('passes on what the database says', async () => {
  await emitEvent(mainApp, { siteId, event: 'order.created', data: 1, id: 'e1' })
  await expect(emitEvent(mainApp, { siteId, event: 'order.created', data: 2, id: 'e1' })).rejects.toMatchObject({
    code: '23505',
  })
  await expect(enqueue(drizzle(mainApp), 'sync-products', {})).rejects.toMatchObject({
    cause: { code: '22023', column: 'siteId' },
  })
})
