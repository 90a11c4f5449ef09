import { sql } from 'drizzle-orm'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findDelivery } from '../../src/db/queries/deliveries.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { connectAsMainApp, createSite, createWebhook } from './main-app.ts'

let database: TestDatabase
let mainApp: pg.Pool
let siteId: number
let webhookId: number
beforeAll(async () => {
  database = await createTestDatabase()
  siteId = await createSite(database.db)
  webhookId = await createWebhook(database.db, siteId)
  mainApp = await connectAsMainApp(database)
})
afterAll(async () => {
  await mainApp.end()
  await database.drop()
})

/** A delivery whose work item stands as given; null: no longer kept. */
async function makeDelivery(state: string | null, delivered: boolean): Promise<number> {
  const { rows } = await database.db.execute<{ id: number }>(sql`
    WITH event AS (
      INSERT INTO website_worker.events (site_id, id, event, body, hash)
      VALUES (${siteId}, ${crypto.randomUUID()}, 'order.updated', '{}', 'h') RETURNING id)
    INSERT INTO website_webhook_deliveries
      (webhook_id, event_id, status_code, attempts, error_message, response_body, created_at, delivered_at)
    SELECT ${webhookId}, id, 503, 2, 'answered 503', 'busy', '2026-01-02 03:04:05.678',
      CASE WHEN ${delivered} THEN '2026-01-02 04:00:00'::timestamp END FROM event
    RETURNING id`)
  const { id } = rows[0]!
  if (state !== null) {
    await database.db.execute(sql`
      INSERT INTO website_worker.work (job, key, site_id, payload, state, reason, next_at)
      VALUES ('deliver-webhook', ${String(id)}, ${siteId}, jsonb_build_object('deliveryId', ${id}::int), ${state},
        'some reason', '2026-07-01T12:00:00Z')`)
  }
  return id
}

describe('the delivery log', () => {
  for (const state of ['owed', 'running', 'held', 'done', 'failed', 'cancelled', null]) {
    for (const delivered of [true, false]) {
      test(`tells what the API does: ${state ?? 'no item'}, ${delivered ? 'delivered' : 'not delivered'}`, async () => {
        const id = await makeDelivery(state, delivered)
        const api = (await findDelivery(database.db, id))!
        // The main app's session is far from UTC: the columns are, all the same.
        const { rows } = await mainApp.query(
          `SELECT *, to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created,
             to_char(delivered_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS delivered,
             to_char(next_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS next
           FROM website_webhook_delivery_log WHERE id = $1`,
          [id],
        )
        const [{ created, delivered: deliveredAt, next, ...row }] = rows
        expect(row).toMatchObject({
          id,
          webhook_id: api.webhookId,
          site_id: siteId,
          event_id: api.eventId,
          event: 'order.updated',
          status: api.status,
          reason: api.reason,
          status_code: 503,
          attempts: 2,
          error_message: 'answered 503',
          response_body: 'busy',
        })
        expect([created, deliveredAt, next]).toEqual(
          [api.createdAt, api.deliveredAt, api.nextAt].map((at) => at?.toISOString() ?? null),
        )
      })
    }
  }

  test('shows nothing to a role that may not read the ledger, until it may', async () => {
    await makeDelivery('failed', false)
    const name = `stranger_${Math.random().toString(36).slice(2)}`
    const countAs = async () => {
      const client = await database.pool.connect()
      try {
        await client.query(`SET ROLE ${name}`)
        return (await client.query('SELECT count(*)::int AS n FROM website_webhook_delivery_log')).rows[0].n as number
      } finally {
        await client.query('RESET ROLE')
        client.release()
      }
    }
    await database.pool.query(`CREATE ROLE ${name}`)
    expect(await countAs()).toBe(0)
    await database.pool.query(`GRANT SELECT ON website_webhook_deliveries TO ${name}`)
    expect(await countAs()).toBeGreaterThan(0)
    await database.pool.query(`DROP OWNED BY ${name}; DROP ROLE ${name}`)
  })

  test('is read by index, however long the ledger is', async () => {
    const other = await createWebhook(database.db, siteId)
    await database.db.execute(sql`
      INSERT INTO website_webhook_deliveries (webhook_id, event_id, attempts)
      SELECT CASE WHEN n % 100 = 0 THEN ${webhookId}::int ELSE ${other}::int END, 'bulk-' || n, 1 FROM generate_series(1, 50000) n`)
    await database.db.execute(sql`
      INSERT INTO website_worker.work (job, key, site_id, payload, state)
      SELECT 'deliver-webhook', d.id::text, ${siteId}, '{}', 'done' FROM website_webhook_deliveries d
      WHERE d.event_id LIKE 'bulk-%'`)
    await database.db.execute(sql`
      INSERT INTO website_worker.events (site_id, id, event, hash)
      SELECT ${siteId}, event_id, 'order.created', 'h' FROM website_webhook_deliveries WHERE event_id LIKE 'bulk-%'`)
    await database.pool.query('ANALYZE website_webhook_deliveries, website_worker.work, website_worker.events')
    const plan = async (condition: string) =>
      (await mainApp.query(`EXPLAIN SELECT * FROM website_webhook_delivery_log WHERE ${condition}`)).rows
        .map((row) => row['QUERY PLAN'])
        .join('\n')
    const page = await plan(`webhook_id = ${webhookId} ORDER BY id DESC LIMIT 50`)
    expect(page).toContain('idx_website_webhook_deliveries_webhook_id_id')
    const one = await plan('id = 7')
    expect(one).toContain('website_webhook_deliveries_pkey')
    for (const each of [page, one]) {
      expect(each).toContain('work_job_key')
      expect(each).toMatch(/Index Cond: \(\(site_id = w.site_id\) AND/)
      expect(each).toContain('One-Time Filter')
      expect(each).not.toMatch(/Seq Scan on (website_webhook_deliveries|work|events)/)
    }
  })
})
