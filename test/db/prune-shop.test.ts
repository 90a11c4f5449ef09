import { afterEach, beforeEach, expect, test } from 'vitest'
import { pruneShop } from '../../src/db/queries/prune-shop.ts'
import { pruneSubmissions } from '../../src/db/queries/prune-submissions.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { createSite } from './main-app.ts'

let database: TestDatabase
let siteId: number
beforeEach(async () => {
  database = await createTestDatabase()
  siteId = await createSite(database.db)
})
afterEach(() => database.drop())

const { signal } = new AbortController()
const query = async (text: string) => (await database.pool.query(text)).rows
const carts = async () =>
  (await query('SELECT session_id AS name FROM website_carts ORDER BY id')).map((row) => row.name)

beforeEach(async () => {
  await query(`
    INSERT INTO website_carts (site_id, session_id, expires_at)
    SELECT ${siteId}, name, (now() AT TIME ZONE 'UTC') - days * interval '1 day'
    FROM (VALUES ('old', 31), ('older', 60), ('recent', 29), ('endless', NULL), ('ahead', -1)) AS carts (name, days)`)
  await query(
    `INSERT INTO website_cart_items (cart_id, sku, name, price, subtotal) SELECT id, 's', 'n', 1, 1 FROM website_carts`,
  )
  await query(`
    INSERT INTO website_sync_logs (site_id, sync_type, entity_type, created_at)
    SELECT ${siteId}, 'product', 'day ' || days, (now() AT TIME ZONE 'UTC') - days * interval '1 day'
    FROM generate_series(1, 3000) days`)
})

test('removes nothing until a retention is set', async () => {
  expect(await pruneShop(database.db, { signal })).toEqual({ carts: 0, syncLogs: 0 })
  expect(await carts()).toHaveLength(5)
})

test('removes carts that expired long enough ago, with their items, and sync logs that are old', async () => {
  expect(await pruneShop(database.db, { cartsDays: 30, syncLogsDays: 10, signal })).toEqual({
    carts: 2,
    syncLogs: 2_991,
  })
  expect(await carts()).toEqual(['recent', 'endless', 'ahead'])
  expect(await query('SELECT FROM website_cart_items')).toHaveLength(3)
  expect(await query('SELECT FROM website_sync_logs')).toHaveLength(9)
})

test('leaves carts that something else refers to, and those that someone is at', async () => {
  await query('CREATE TABLE quotes (cart_id int REFERENCES website_carts ON DELETE CASCADE)')
  await query(`INSERT INTO quotes SELECT id FROM website_carts WHERE session_id = 'older'`)
  const owner = await database.pool.connect()
  await owner.query(`BEGIN; UPDATE website_carts SET expires_at = now() WHERE session_id = 'old'`)
  expect(await pruneShop(database.db, { cartsDays: 30, signal })).toMatchObject({ carts: 0 })
  await owner.query('COMMIT')
  owner.release()
  expect(await pruneShop(database.db, { cartsDays: 30, signal })).toMatchObject({ carts: 0 })
  expect(await carts()).toHaveLength(5)
})

test('forgets what was done for submissions that are gone, but for those a job is still at', async () => {
  await query(`INSERT INTO website_forms (site_id, name, slug, fields) VALUES (${siteId}, 'F', 'f', '[]')`)
  await query(`INSERT INTO website_form_submissions (id, form_id, data) SELECT 1000001, id, '{}' FROM website_forms`)
  await query('INSERT INTO website_worker.seen_submissions (submission_id) VALUES (1000001), (1000002), (1000003)')
  await query(`INSERT INTO website_worker.crm_leads (submission_id, integration_id, reference)
    SELECT id, 1, 'r' FROM generate_series(1000001, 1004000) id`)
  await query(`INSERT INTO website_worker.submission_mails (submission_id, message_id) VALUES (1000002, 'm')`)
  await query(`INSERT INTO website_worker.work (job, key, payload) VALUES ('check-lead', '1000003', '{}')`)
  expect(await pruneSubmissions(database.db, signal)).toBe(1 + 3_998 + 1)
  expect(await query('SELECT submission_id AS id FROM website_worker.crm_leads ORDER BY 1')).toEqual([
    { id: 1_000_001 },
    { id: 1_000_003 },
  ])
  expect(await pruneSubmissions(database.db, signal)).toBe(0)
})
