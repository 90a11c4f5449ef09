import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { registerJobs } from '../../src/db/queries/enqueue.ts'
import { deliverWebhook } from '../../src/queues/deliver-webhook.ts'
import { maintain } from '../../src/queues/maintain.ts'
import * as transitions from '../../src/work/transitions.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining, someoneWaits } from '../fixtures/plans.ts'
import { addSite } from '../http/api-fixture.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
  await registerJobs(database.db, [deliverWebhook as never, maintain as never])
})
afterAll(() => database.drop())
afterEach(async () => {
  await database.db.execute(sql`TRUNCATE website_worker.work RESTART IDENTITY`)
  await database.db.execute(sql`DELETE FROM website_worker.domains WHERE site_id > 0`)
  await database.db.execute(sql`UPDATE website_worker.domains SET enabled = true`)
})

const pause = (siteId: number, paused = true) =>
  database.db.execute(
    sql`INSERT INTO website_worker.domains (domain, site_id, enabled, paused) VALUES ('webhooks', ${siteId}, true, ${paused})
        ON CONFLICT (domain, site_id) DO UPDATE SET paused = excluded.paused`,
  )
const addItems = (
  siteId: number | null,
  count: number,
  state: string,
  reason: string | null,
  job = 'deliver-webhook',
) =>
  database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, site_id, payload, state, reason)
        SELECT ${job}, gen_random_uuid()::text, ${siteId}::int, '{}', ${state}, ${reason}::text
        FROM generate_series(1, ${count}::int)`,
  )
const counts = async () => {
  const { rows } = await database.db.execute(
    sql`SELECT site_id, state, count(*)::int AS count FROM website_worker.work GROUP BY 1, 2 ORDER BY 1, 2`,
  )
  return rows.map((row) => [row.site_id, row.state, row.count])
}
const sweep = () => transitions.createReleaseSweep(database)

test('resuming a site releases all of its own work and nobody else’s', async () => {
  for (const site of [1, 2, 3]) await addItems(site, 6_000, 'held', 'paused')
  await addItems(1, 10, 'held', 'webhook disabled')
  await pause(3)
  expect(await transitions.releaseSite(database.db, ['deliver-webhook'], 1)).toBe(6_000)
  expect(await transitions.releaseSite(database.db, ['deliver-webhook'], 3)).toBe(0)
  expect(await counts()).toEqual([
    [1, 'held', 10],
    [1, 'owed', 6_000],
    [2, 'held', 6_000],
    [3, 'held', 6_000],
  ])
})

test('the sweep releases what no switch holds, of many sites, jobs and of no site', async () => {
  for (let site = 1; site <= 120; site++) await addItems(site, 3, 'held', site % 2 ? 'paused' : 'domain off')
  await addItems(null, 7, 'held', 'domain off', 'maintain')
  await addItems(null, 5, 'held', 'domain off')
  await addItems(4, 2, 'held', 'brake')
  await pause(5)
  expect(await sweep()()).toBe(360 - 3 + 7 + 5)
  expect((await counts()).filter(([, state]) => state === 'held')).toEqual([
    [4, 'held', 2],
    [5, 'held', 3],
  ])
  await pause(5, false)
  expect(await sweep()()).toBe(3)
})

test('with fifty thousand held, what is free is found and released through the index alone', async () => {
  for (let site = 1; site <= 50; site++) await pause(site)
  await addItems(1, 1, 'owed', null)
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, site_id, payload, state, reason)
        SELECT 'deliver-webhook', i::text, 1 + i % 50, '{}', 'held', 'paused' FROM generate_series(1, 50000) i`,
  )
  await database.db.execute(sql`VACUUM ANALYZE website_worker.work`)
  await pause(9, false)
  const { db, plans } = explaining(database.db)
  expect(await transitions.createReleaseSweep({ db })()).toBe(1_000)
  for (const plan of plans) expect(plan).not.toContain('Seq Scan on work')
  expect(plans.join('\n')).toMatch(/work_held[^]*work_pkey/)
})

test('deliveries held for a webhook that its owner switched on again are owed', async () => {
  const { site, webhooks } = await addSite(database.db, ['order.created', 'order.updated'])
  for (const webhook of webhooks) {
    await database.db.execute(
      sql`WITH delivery AS (
            INSERT INTO public.website_webhook_deliveries (webhook_id, event_id)
            SELECT ${webhook.id}::int, 'evt_' || i FROM generate_series(1, 3) i RETURNING id)
          INSERT INTO website_worker.work (job, key, site_id, payload, state, reason)
          SELECT 'deliver-webhook', id::text, ${site.id}::int, jsonb_build_object('deliveryId', id), 'held', 'webhook disabled'
          FROM delivery`,
    )
  }
  await addItems(site.id, 1, 'held', 'webhook disabled')
  const set = (isActive: boolean, id: number | undefined) =>
    database.db.execute(sql`UPDATE public.website_webhooks SET is_active = ${isActive} WHERE id = ${id}`)
  await set(false, webhooks[0]?.id)
  await set(false, webhooks[1]?.id)
  const release = sweep()
  expect(await release()).toBe(0)
  await set(true, webhooks[1]?.id)
  await pause(site.id)
  expect(await release()).toBe(0)
  await pause(site.id, false)
  expect(await release()).toBe(3)
  expect(await release()).toBe(0)
  expect(await counts()).toEqual([
    [site.id, 'held', 4],
    [site.id, 'owed', 3],
  ])
})

test('holding a site leaves the others alone and takes no single long statement', async () => {
  await addItems(1, 12_000, 'owed', null)
  await addItems(2, 10, 'owed', null)
  await database.db.execute(sql`UPDATE website_worker.work SET rung_at = now() WHERE id % 2 = 0`)
  const { db, plans } = explaining(database.db)
  expect(await transitions.holdSite(db, ['deliver-webhook'], 1, 'paused')).toBe(12_000)
  expect(plans).toHaveLength(1 + 3)
  expect(await transitions.holdSite(db, ['maintain'], 2, 'paused')).toBe(0)
  expect(await counts()).toEqual([
    [1, 'held', 12_000],
    [2, 'owed', 10],
  ])
})

const addTwin = async (state: string) => {
  const { rows } = await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, finished_at)
        VALUES ('maintain', 'twin', '{}', ${state}, CASE WHEN ${state} = 'held' THEN NULL ELSE now() END) RETURNING id`,
  )
  return Number(rows[0]?.id)
}

test('of finished items with one key only one is owed again', async () => {
  const [first, second] = [await addTwin('failed'), await addTwin('cancelled')]
  expect(await transitions.retry(database.db, [second, first], 'retry')).toMatchObject([{ workId: second, delayMs: 0 }])
  await transitions.cancel(database.db, [second], 'because')
  const held = await addTwin('held')
  await addTwin('done')
  expect(await transitions.retry(database.db, [first, second, held, held + 1], 'retry')).toMatchObject([
    { workId: held },
  ])
})

test('a retry that meets an insert of the same key changes nothing', async () => {
  const id = await addTwin('failed')
  const other = await database.pool.connect()
  await other.query('BEGIN')
  await other.query(`INSERT INTO website_worker.work (job, key, payload) VALUES ('maintain', 'twin', '{}')`)
  const retrying = transitions.retry(database.db, [id], 'retry')
  await someoneWaits(database.db)
  await other.query('COMMIT')
  other.release()
  expect(await retrying).toEqual([])
})

test.each<[string, (ids: number[]) => Promise<unknown>]>([
  ['markRung', (ids) => transitions.markRung(database.db, rungOnce(ids))],
  ['unmarkRung', (ids) => transitions.unmarkRung(database.db, rungOnce(ids))],
  ['rearm', (ids) => transitions.rearm(database.db, rungOnce(ids))],
  ['promote', (ids) => transitions.promote(database.db, ids)],
  ['cancel', (ids) => transitions.cancel(database.db, ids, 'because')],
  ['giveUp', (ids) => transitions.giveUp(database.db, ids, 'broken')],
  ['holdSite', () => transitions.holdSite(database.db, ['maintain'], 1, 'paused')],
])('%s waits for a row without holding a later one', async (_, change) => {
  const { rows } = await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, site_id, payload, rung_at)
        SELECT 'maintain', i::text, 1, '{}', now() FROM generate_series(1, 3) i RETURNING id`,
  )
  const ids = rows.map((row) => Number(row.id))
  // The first row's newest version comes last in the table, so that no order but that of the ids begins with it.
  await database.db.execute(sql`UPDATE website_worker.work SET label = 'x' WHERE id = ${ids[0]}`)
  const other = await database.pool.connect()
  await other.query('BEGIN')
  await other.query(`SELECT FROM website_worker.work WHERE id = ${ids[0]} FOR UPDATE`)
  const changing = change(ids.toReversed())
  await someoneWaits(database.db)
  await other.query(`SELECT FROM website_worker.work WHERE id > ${ids[0]} FOR UPDATE NOWAIT`)
  await other.query('ROLLBACK')
  other.release()
  await changing
})

const rungOnce = (ids: readonly number[]) => ids.map((workId) => ({ workId, generation: 1 }))

test('rings tell how long until they are due by the clock of Postgres', async () => {
  await addItems(1, 1, 'owed', null)
  expect(await transitions.promote(database.db, [1])).toMatchObject([{ workId: 1, delayMs: 0 }])
})
