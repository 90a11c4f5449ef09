import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { prune } from '../../src/db/queries/prune.ts'
import { websiteSites, websiteWebhooks } from '../../src/db/schema/index.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining, someoneWaits } from '../fixtures/plans.ts'

let database: TestDatabase
let siteId: number
let webhookId: number
beforeEach(async () => {
  database = await createTestDatabase()
  const { db } = database
  const [site] = await db.insert(websiteSites).values({ name: 'Shop', domain: 'shop.test' }).returning()
  siteId = site?.id ?? 0
  const hook = { siteId, name: 'Orders', event: 'order.created', targetUrl: 'http://127.0.0.1/', secret: 's' } as const
  const [webhook] = await db.insert(websiteWebhooks).values(hook).returning()
  webhookId = webhook?.id ?? 0
})
afterEach(() => database.drop())

const run = (options: { deliveriesDays?: number } = {}, db = database.db) =>
  prune(db, { payloadsDays: 30, signal: new AbortController().signal, ...options })
const column = async (query: ReturnType<typeof sql>) =>
  (await database.db.execute(query)).rows.map((row) => Object.values(row)[0])
const keys = () => column(sql`SELECT key FROM website_worker.work ORDER BY key`)

async function event(id: string, days: number) {
  await database.db.execute(
    sql`INSERT INTO website_worker.events (site_id, id, event, body, hash, created_at)
        VALUES (${siteId}, ${id}, 'order.created', 'body', 'h', now() - ${days} * interval '1 day')`,
  )
}

/** A ledger row of an event, made and maybe delivered so many days ago. */
async function delivery(eventId: string, made: number, delivered: number | null = null): Promise<number> {
  const [id] = await column(
    sql`INSERT INTO website_webhook_deliveries (webhook_id, event_id, created_at, delivered_at)
        VALUES (${webhookId}, ${eventId}, (now() - ${made} * interval '1 day') AT TIME ZONE 'UTC',
                (now() - ${delivered} * interval '1 day') AT TIME ZONE 'UTC') RETURNING id`,
  )
  return id as number
}

async function item(deliveryId: number, state: string, endedDays: number | null = null) {
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, reason, finished_at)
        VALUES ('deliver-webhook', ${String(deliveryId)}, '{}', ${state}, 'why', now() - ${endedDays} * interval '1 day')`,
  )
}

async function attempt(deliveryId: number, days: number) {
  await database.db.execute(
    sql`INSERT INTO website_worker.webhook_attempts (delivery_id, attempt, at, duration_ms, trigger)
        VALUES (${deliveryId}, 1, now() - ${days} * interval '1 day', 1, 'event')`,
  )
}

describe('work items', () => {
  test('one that is owed again while old ones are removed stays', async () => {
    await database.db.execute(
      sql`INSERT INTO website_worker.work (job, key, payload, state, finished_at)
          SELECT 'j', key, '{}', 'done', now() - days * interval '1 day'
          FROM (VALUES ('again', 8), ('old', 9), ('recent', 6)) AS items(key, days)`,
    )
    const owner = await database.pool.connect()
    await owner.query('BEGIN')
    await owner.query(`UPDATE website_worker.work SET state = 'owed', finished_at = NULL WHERE key = 'again'`)
    const pruning = run()
    await someoneWaits(database.db)
    await owner.query('COMMIT')
    owner.release()
    expect(await pruning).toMatchObject({ workItems: 1 })
    expect(await keys()).toEqual(['again', 'recent'])
  })

  test('how far a replay came is kept as long as its item', async () => {
    const { rows } = await database.db.execute(
      sql`WITH item AS (INSERT INTO website_worker.work (job, key, payload) VALUES ('replay-webhook', '1', '{}') RETURNING id)
          INSERT INTO website_worker.webhook_replays (work_id, last_id, total)
          SELECT id, 1, 1 FROM item UNION ALL SELECT 999999, 1, 1 RETURNING work_id`,
    )
    expect(await run()).toMatchObject({ replays: 1 })
    const left = await database.db.execute(sql`SELECT work_id FROM website_worker.webhook_replays`)
    expect(left.rows).toEqual(rows.slice(0, 1))
  })
})

test('what is known of a webhook goes with it', async () => {
  await database.db.execute(
    sql`INSERT INTO website_worker.webhook_health (webhook_id) VALUES (${webhookId}), (${webhookId + 1})`,
  )
  expect(await run()).toMatchObject({ webhookHealth: 1 })
  expect(await column(sql`SELECT webhook_id FROM website_worker.webhook_health`)).toEqual([webhookId])
})

describe('the ledger', () => {
  test('is never touched until its retention is set', async () => {
    await delivery('e1', 10_000, 10_000)
    expect(await run()).toMatchObject({ deliveries: 0 })
    expect(await run({ deliveriesDays: 10_001 })).toMatchObject({ deliveries: 0 })
    expect(await run({ deliveriesDays: 9_999 })).toMatchObject({ deliveries: 1 })
  })

  test('loses what ended before its retention, with its attempts, and nothing that did not', async () => {
    const theirs = await delivery('theirs', 300, 300)
    await database.db.execute(sql`UPDATE website_worker.installation SET delivery_watermark = ${theirs}`)
    const old = { delivered: await delivery('delivered', 9, 9), failed: await delivery('failed', 9) }
    await item(old.failed, 'failed', 6)
    await attempt(old.failed, 8)
    await attempt(old.failed, 7)
    const kept = [theirs, await delivery('made since', 4, 4), await delivery('delivered since', 9, 1)]
    for (const [state, ended] of [
      ['owed', null],
      ['running', null],
      ['held', null],
      ['failed', 4],
      ['cancelled', 0],
    ] as const) {
      const id = await delivery(`${state} again`, 9, 9)
      await item(id, state, ended)
      await attempt(id, 8)
      kept.push(id)
    }
    expect(await run({ deliveriesDays: 5 })).toMatchObject({ deliveries: 2, attempts: 0 })
    expect(await column(sql`SELECT id FROM website_webhook_deliveries ORDER BY id`)).toEqual(kept)
    expect(await column(sql`SELECT delivery_id FROM website_worker.webhook_attempts ORDER BY 1`)).toEqual(kept.slice(3))
  })

  test('is pruned past any number of rows that have to stay', async () => {
    await database.db.execute(
      sql`INSERT INTO website_webhook_deliveries (webhook_id, event_id, created_at)
          SELECT ${webhookId}, 'e' || i, now() - interval '9 days' FROM generate_series(1, 5001) i`,
    )
    await database.db.execute(
      sql`INSERT INTO website_worker.work (job, key, payload, state)
          SELECT 'deliver-webhook', id::text, '{}', 'held' FROM website_webhook_deliveries WHERE event_id <> 'e5001'`,
    )
    expect(await run({ deliveriesDays: 5 })).toMatchObject({ deliveries: 1 })
  })

  test('keeps a row that is delivered while old ones are removed', async () => {
    const id = await delivery('e', 9)
    const owner = await database.pool.connect()
    await owner.query('BEGIN')
    await owner.query('UPDATE website_webhook_deliveries SET delivered_at = now() WHERE id = $1', [id])
    const pruning = run({ deliveriesDays: 5 })
    await someoneWaits(database.db)
    await owner.query('COMMIT')
    owner.release()
    expect(await pruning).toMatchObject({ deliveries: 0 })
  })
})

test('attempts go when they are old, also those of deliveries that are gone', async () => {
  const [first, second] = [await delivery('e1', 50, 1), await delivery('e2', 29, 29)]
  const gone = await delivery('e3', 28, 28)
  for (const [id, days] of [
    [first, 50],
    [first, 31],
    [first, 29],
    [second, 29],
    [gone, 28],
  ] as const) {
    await attempt(id, days)
  }
  expect(await run()).toMatchObject({ attempts: 2 })
  await database.db.execute(sql`DELETE FROM website_webhook_deliveries`)
  await database.db.execute(
    sql`UPDATE website_worker.webhook_attempts SET at = now() - interval '40 days' WHERE delivery_id = ${gone}`,
  )
  expect(await run()).toMatchObject({ attempts: 1 })
  expect(await column(sql`SELECT delivery_id FROM website_worker.webhook_attempts ORDER BY 1`)).toEqual([first, second])
})

describe('events', () => {
  const bodies = () => column(sql`SELECT id FROM website_worker.events WHERE body IS NOT NULL ORDER BY id`)

  test('are emptied when they are old, unless a delivery may still send them', async () => {
    for (const [id, state, ended] of [
      ['done', 'done', 1],
      ['cancelled', 'cancelled', 1],
      ['held', 'held', null],
      ['owed', 'owed', null],
      ['running', 'running', null],
    ] as const) {
      await event(id, 100)
      await item(await delivery(id, 100), state, ended)
    }
    await event('for nobody', 31)
    await event('young', 29)
    expect(await run()).toMatchObject({ eventBodies: 3, events: 2 })
    expect(await bodies()).toEqual(['held', 'owed', 'running', 'young'])
    expect(await column(sql`SELECT id FROM website_worker.events WHERE body IS NULL`)).toEqual(['for nobody'])
    await database.db.execute(sql`UPDATE website_worker.work SET state = 'cancelled', finished_at = now()`)
    expect(await run()).toMatchObject({ eventBodies: 3, events: 3 })
  })

  test('are emptied past any number of the same instant that have to stay', async () => {
    await database.db.execute(
      sql`INSERT INTO website_worker.events (site_id, id, event, body, hash, created_at)
          SELECT ${siteId}, 'e' || lpad(i::text, 5, '0'), 'order.created', 'b', 'h', now() - interval '40 days'
          FROM generate_series(1, 2600) i`,
    )
    await database.db.execute(
      sql`INSERT INTO website_webhook_deliveries (webhook_id, event_id) SELECT ${webhookId}, id
          FROM website_worker.events WHERE id NOT IN ('e02500', 'e02600')`,
    )
    await database.db.execute(
      sql`INSERT INTO website_worker.work (job, key, payload, state)
          SELECT 'deliver-webhook', id::text, '{}', 'held' FROM website_webhook_deliveries`,
    )
    expect(await run()).toMatchObject({ eventBodies: 2 })
    expect(await bodies()).toHaveLength(2598)
  })
})

test('no statement reads a whole table', async () => {
  await database.db.execute(
    sql`INSERT INTO website_worker.events (site_id, id, event, body, hash, created_at)
        SELECT ${siteId}, 'e' || i, 'order.created', CASE WHEN i > 10000 THEN 'b' END, 'h', now() - (40000 - i) * interval '5 minutes'
        FROM generate_series(1, 40000) i`,
  )
  await database.db.execute(
    sql`INSERT INTO website_webhook_deliveries (webhook_id, event_id, created_at, delivered_at)
        SELECT ${webhookId}, id, created_at, created_at FROM website_worker.events ORDER BY created_at`,
  )
  await database.db.execute(
    sql`INSERT INTO website_worker.webhook_attempts (delivery_id, attempt, at, duration_ms, trigger)
        SELECT id, 1, created_at, 1, 'event' FROM website_webhook_deliveries ORDER BY id`,
  )
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, finished_at)
        SELECT 'deliver-webhook', id::text, '{}', 'done', created_at FROM website_webhook_deliveries`,
  )
  const tables = ['work', 'events', 'webhook_attempts', 'website_webhook_deliveries']
  await database.db.execute(
    sql`ANALYZE website_worker.work, website_worker.events, website_worker.webhook_attempts, website_webhook_deliveries`,
  )
  const { db, plans } = explaining(database.db)
  const removed = await run({ deliveriesDays: 130 }, db)
  expect(
    Object.values(removed).filter((count) => count > 0),
    'each had its turn',
  ).toHaveLength(5)
  expect(plans.flatMap((plan) => plan.match(new RegExp(`Seq Scan on (${tables.join('|')}) .*`, 'g')) ?? [])).toEqual([])
})

test('keeps what keeps a page from being published, for as long as the page is scheduled for that time', async () => {
  await database.db.execute(sql`
    INSERT INTO website_pages (id, site_id, slug, title, status, publish_at)
    VALUES (2000000001, ${siteId}, 'high', 'P', 'scheduled', '2026-01-01 10:00')`)
  await database.db.execute(sql`
    INSERT INTO website_pages (site_id, slug, title, status, publish_at) VALUES
      (${siteId}, 'same', 'P', 'scheduled', '2026-01-01 10:00'), (${siteId}, 'moved', 'P', 'scheduled', '2026-02-02 10:00'),
      (${siteId}, 'draft', 'P', 'draft', '2026-01-01 10:00'), (${siteId}, 'done', 'P', 'scheduled', '2026-01-01 10:00')`)
  await database.db.execute(sql`
    INSERT INTO website_worker.work (job, key, payload, label, state, finished_at)
    SELECT 'publish-page', id::text, '{"publishAt": "2026-01-01T10:00:00.000000Z"}', slug,
      CASE WHEN slug = 'done' THEN 'done' ELSE 'cancelled' END, now() - interval '8 days' FROM website_pages`)
  expect(await run()).toMatchObject({ workItems: 3 })
  expect(await column(sql`SELECT label FROM website_worker.work ORDER BY label`)).toEqual(['high', 'same'])
})

test('forgets the version that was asked for of a page that is gone, once nothing waits for it', async () => {
  const [id] = await column(
    sql`INSERT INTO website_pages (site_id, slug, title) VALUES (${siteId}, 'there', 'P') RETURNING id`,
  )
  await database.db.execute(sql`
    INSERT INTO website_worker.page_requests (page_id, publish_at, version, work_id)
    VALUES (${id}, now(), 1, NULL), (1000001, now(), 1, NULL), (1000002, now(), 1, NULL), (1000003, now(), 1, 7)`)
  await database.db.execute(sql`
    INSERT INTO website_worker.work (job, key, payload, state, reason) VALUES ('publish-page', '1000002', '{}', 'held', 'x')`)
  expect(await run()).toMatchObject({ pageRequests: 1 })
  expect(await column(sql`SELECT page_id FROM website_worker.page_requests ORDER BY page_id`)).toEqual([
    id,
    1_000_002,
    1_000_003,
  ])
})

test('what syncs left goes after its time', async () => {
  const { db } = database
  await db.execute(
    sql`INSERT INTO website_worker.sync_runs (site_id, type, mode, state, work_id, token, lease_until, source, finished_at)
        SELECT ${siteId}, 'price', 'full', s.state, d, gen_random_uuid(), now(), '',
          CASE WHEN s.state = 'done' THEN now() - d * interval '1 day' END
        FROM (VALUES ('done', 29), ('done', 31), ('running', 99)) s(state, d)`,
  )
  await db.execute(
    sql`INSERT INTO website_worker.erp_pushes (id, hash, job, work_id, at)
        SELECT d::text, '', '', 1, now() - d * interval '1 day' FROM unnest('{6,8}'::int[]) d`,
  )
  await db.execute(
    sql`INSERT INTO website_worker.sync_quarantine (site_id, type, entity, key, reason, first_seen_at, resolved_at)
        SELECT ${siteId}, 'product', 'product', r.key, '', now() - interval '1 year', now() - r.days * interval '1 day'
        FROM (VALUES ('open', null), ('mended', 29), ('long mended', 31)) r(key, days)`,
  )
  expect(await run()).toMatchObject({ syncRuns: 1, erpPushes: 1, quarantine: 1 })
  expect(await column(sql`SELECT work_id::int FROM website_worker.sync_runs ORDER BY 1`)).toEqual([29, 99])
  expect(await column(sql`SELECT id FROM website_worker.erp_pushes`)).toEqual(['6'])
  expect(await column(sql`SELECT key FROM website_worker.sync_quarantine ORDER BY 1`)).toEqual(['mended', 'open'])
})
