import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Db } from '../../src/db/client.ts'
import type { QueueBackend } from '../../src/work/backend.ts'
import { createMetrics } from '../../src/worker/metrics.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining } from '../fixtures/plans.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, finished_at)
        SELECT 'j', i::text, '{}', 'done', now() FROM generate_series(1, 20000) i`,
  )
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, rung_at, next_at)
        VALUES ('j', 'a', '{}', 'owed', NULL, now() - interval '1 minute'), ('j', 'b', '{}', 'owed', now(), now()),
               ('j', 'c', '{}', 'held', NULL, now()), ('j', 'd', '{}', 'failed', NULL, now()),
               ('j', 'e', '{}', 'running', now(), now())`,
  )
  await database.db.execute(sql`VACUUM ANALYZE website_worker.work`)
})
afterAll(() => database.drop())

const backend = (queue: object = { getJobCounts: async () => ({ waiting: 3 }) }) =>
  ({ ready: () => true, queue: () => queue }) as unknown as QueueBackend
const lines = (text: string, ...names: string[]) =>
  text.split('\n').filter((line) => names.some((name) => line.startsWith(name)))
const items = [
  'website_worker_items{',
  'website_worker_owed_oldest_seconds{',
  'website_worker_epoch_alarms ',
  'website_worker_webhooks_',
]

test('items are counted through their indexes, whatever stands finished', async () => {
  const { db, plans } = explaining(database.db)
  const text = await createMetrics({ db, backend: backend(), jobs: ['j'] }).render()
  expect(lines(text, 'website_worker_items{').toSorted()).toEqual([
    'website_worker_items{job="j",state="failed"} 1',
    'website_worker_items{job="j",state="held"} 1',
    'website_worker_items{job="j",state="owed"} 2',
    'website_worker_items{job="j",state="running"} 1',
  ])
  const overdue = Number(lines(text, 'website_worker_owed_oldest_seconds{')[0]?.split(' ')[1])
  expect(overdue).toBeGreaterThanOrEqual(60)
  expect(overdue).toBeLessThan(120)
  expect(plans[0]).not.toContain('Seq Scan')
})

test('scrapes that come together or soon after one another ask the database once', async () => {
  const { db, plans } = explaining(database.db)
  const metrics = createMetrics({ db, backend: backend(), jobs: ['j'] }, { freshMs: 60_000 })
  await Promise.all([metrics.render(), metrics.render(), metrics.render()])
  expect(await metrics.render()).toContain('website_worker_items{job="j",state="owed"} 2')
  expect(plans.length).toBeGreaterThan(0)
  expect(new Set(plans).size).toBe(plans.length)
})

test('webhooks that the worker disabled, and those that only fail, are counted', async () => {
  const { db } = database
  await db.execute(
    sql`WITH hooks AS (
          INSERT INTO website_webhooks (name, event, target_url, secret, is_active)
          SELECT name, 'order.created', 'http://127.0.0.1/', 's', is_on
          FROM (VALUES ('disabled', false), ('off', false), ('on again', true), ('failing', true), ('well', true)) AS w(name, is_on)
          RETURNING id, name)
        INSERT INTO website_worker.webhook_health (webhook_id, failing_since, disabled_at)
        SELECT id, CASE WHEN name <> 'well' THEN now() END, CASE WHEN name IN ('disabled', 'on again') THEN now() END FROM hooks`,
  )
  const text = await createMetrics({ db, backend: backend(), jobs: ['j'] }).render()
  expect(lines(text, 'website_worker_webhooks_')).toEqual([
    'website_worker_webhooks_disabled 1',
    'website_worker_webhooks_failing 2',
  ])
})

test('a database that is away leaves its gauges out instead of as they were', async () => {
  let away = false
  const execute = (statement: never) => (away ? Promise.reject(new Error('away')) : database.db.execute(statement))
  const metrics = createMetrics({ db: { execute } as unknown as Db, backend: backend(), jobs: ['j'] }, { freshMs: 0 })
  expect(lines(await metrics.render(), ...items)).toHaveLength(4 + 1 + 1 + 2)
  away = true
  expect(lines(await metrics.render(), ...items)).toEqual([])
  away = false
  expect(lines(await metrics.render(), ...items)).toHaveLength(8)
})

test('a queue that does not answer is not reachable and has no counts', async () => {
  const silent = backend({ getJobCounts: () => new Promise(() => {}) })
  const options = { freshMs: 0, deadlineMs: 50 }
  const text = await createMetrics({ db: database.db, backend: silent, jobs: ['j'] }, options).render()
  expect(lines(text, 'website_worker_queue_reachable', 'bullmq_job_count{')).toEqual([
    'website_worker_queue_reachable 0',
  ])
})

test('how late pages went out is a histogram', async () => {
  const metrics = createMetrics({ db: database.db, backend: backend(), jobs: ['j'] })
  for (const seconds of [0.004, 0.06, 7_200]) metrics.pagePublished(seconds)
  const text = await metrics.render()
  const name = 'website_worker_publish_lateness_seconds'
  expect(lines(text, `${name}_bucket{le="0.01"}`, `${name}_bucket{le="0.1"}`, `${name}_count`)).toEqual([
    `${name}_bucket{le="0.01"} 1`,
    `${name}_bucket{le="0.1"} 2`,
    `${name}_count 3`,
  ])
})

test('syncs tell of calls and rows, and their streams of drift and age', async () => {
  const { db } = database
  await db.execute(
    sql`WITH sites AS (
          INSERT INTO website_sites (id, name, domain, deleted_at)
          VALUES (1, 'Shop', 'one.example', NULL), (2, 'Gone', 'two.example', now()) RETURNING id)
        INSERT INTO website_worker.sync_checkpoints (site_id, type, source, drift, succeeded_at)
        SELECT s.id, t.type, '', t.drift, now() - t.age * interval '1 s'
        FROM sites s, (VALUES ('product', 3, 7200), ('price', NULL, NULL)) t(type, drift, age)`,
  )
  const metrics = createMetrics({ db, backend: backend(), jobs: ['j'] })
  for (const outcome of ['page', 'page', 'unavailable']) metrics.erpCalled(outcome)
  metrics.rowsSynced('product', 'inserted', 500)
  const text = await metrics.render()
  expect(lines(text, 'website_worker_erp_', 'website_worker_sync_rows_total')).toEqual([
    'website_worker_erp_calls_total{outcome="page"} 2',
    'website_worker_erp_calls_total{outcome="unavailable"} 1',
    'website_worker_sync_rows_total{type="product",change="inserted"} 500',
    'website_worker_erp_drift{site="1",type="product"} 3',
  ])
  expect(lines(text, 'website_worker_sync_last_success_seconds')).toEqual([
    expect.stringMatching(/\{site="1",type="product"\} 72\d\d/),
  ])
})
