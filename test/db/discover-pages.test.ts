import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { disableDomain, enableDomain, pauseDomain } from '../../src/db/domains.ts'
import { createPageDiscovery } from '../../src/db/queries/discover-pages.ts'
import { enqueueItem, registerJobs } from '../../src/db/queries/enqueue.ts'
import { domains, pageRequests, websiteSites, work } from '../../src/db/schema/index.ts'
import { publishPage } from '../../src/queues/publish-page.ts'
import { cancel } from '../../src/work/transitions.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining } from '../fixtures/plans.ts'
import { pagesOf, type Pages } from '../processors/publish-fixtures.ts'

let database: TestDatabase
let pages: Pages
let siteId: number
beforeAll(async () => {
  database = await createTestDatabase()
  pages = pagesOf(database.db)
  await registerJobs(database.db, [publishPage])
})
afterAll(() => database.drop())
beforeEach(async () => {
  for (const table of [websiteSites, work, domains, pageRequests]) await database.db.delete(table)
  await database.db.execute(sql`DELETE FROM website_pages`)
  siteId = await pages.site()
})

const discover = () => createPageDiscovery()(database.db)
const enqueue = (payload: object) => enqueueItem(database.db, 'publish-page', payload as never, { rung: true })
const endItems = (state: string) =>
  database.db.execute(sql`UPDATE website_worker.work SET state = ${state}, finished_at = now()`)

test('owes what is due within a minute to the microsecond, oldest first, and nothing else', async () => {
  const soon = await pages.page(siteId, 50_000)
  const overdue = await pages.page(siteId, -86_400_000)
  const ids = await Promise.all([
    pages.page(siteId, 70_000),
    pages.page(siteId, null),
    pages.page(siteId, -1, { status: 'draft' }),
    pages.page(siteId, -1, { status: 'published' }),
    pages.page(siteId, -1, { deletedAt: new Date() }),
  ])
  for (const instant of ['infinity', '-infinity', '0044-03-15 12:00 BC'])
    await database.db.execute(
      sql`UPDATE website_pages SET publish_at = ${instant} WHERE id = ${await pages.page(siteId, 0)}`,
    )
  expect(await discover()).toBe(2)
  const { rows } = await database.db.execute(
    sql`SELECT p.id, w.site_id = p.site_id AND w.next_at = p.publish_at AT TIME ZONE 'UTC' AS ok, w.rung_at, w.state, w.trigger
        FROM website_worker.work w JOIN website_pages p ON p.id::text = w.key ORDER BY w.id`,
  )
  expect(rows).toEqual(
    [overdue, soon].map((id) => ({ id, ok: true, rung_at: null, state: 'owed', trigger: 'discovery' })),
  )
  expect(await discover()).toBe(0)
  for (const id of ids) expect(await pages.items(id)).toEqual([])
})

test('makes an item that the job takes', async () => {
  const id = await pages.page(siteId, 0)
  await discover()
  const [item] = await pages.items(id)
  expect(publishPage.schema.strict().parse(item!.payload)).toMatchObject({ pageId: id })
})

test('finds a page again that is scheduled anew after its run ended', async () => {
  const id = await pages.page(siteId, -1)
  await discover()
  await endItems('done')
  expect(await discover()).toBe(1)
  expect(await pages.items(id)).toHaveLength(2)
})

test.each(['failed', 'cancelled'])('leaves a page whose item was %s until it has another time', async (state) => {
  const id = await pages.page(siteId, -1_000)
  await discover()
  await endItems(state)
  expect(await discover()).toBe(0)
  await pages.reschedule(id, -2_000)
  expect(await discover()).toBe(1)
})

test.each([
  ['still to be moved there', 30_000],
  ['far', 3_600_000],
])('leaves a page that was cancelled after its row was changed, its time %s', async (_, dueInMs) => {
  const id = await pages.page(siteId, null)
  const { workId } = await enqueue({ pageId: id, publishAt: '2031-01-01T00:00:00Z' })
  await pages.reschedule(id, dueInMs)
  expect(await cancel(database.db, [workId], 'cancelled by ops')).toHaveLength(1)
  expect(await discover()).toBe(0)
  const { publishAt } = await pages.read(id)
  const [item] = await pages.items(id)
  expect(new Date((item!.payload as { publishAt: string }).publishAt)).toEqual(publishAt)
  await pages.reschedule(id, 20_000)
  expect(await discover()).toBe(1)
})

test('moves an item to the time its page has by now, and leaves one that waits for another attempt', async () => {
  const id = await pages.page(siteId, null)
  const { workId } = await enqueue({ pageId: id, publishAt: '2031-01-01T00:00:00Z' })
  await pages.reschedule(id, 10_000)
  expect(await discover()).toBe(1)
  const page = await pages.read(id)
  expect(await pages.items(id)).toMatchObject([
    { id: workId, nextAt: page.publishAt, generation: 2, rungAt: null, state: 'owed' },
  ])
  await database.db.execute(sql`UPDATE website_worker.work SET next_at = now() + interval '30 s', attempts = 1`)
  expect(await discover()).toBe(0)
  expect(await pages.items(id)).toMatchObject([{ attempts: 1, generation: 2 }])
})

test('moves the item that was asked for again, also to a far time, with its version', async () => {
  const id = await pages.page(siteId, null)
  const { workId } = await enqueue({ pageId: id, publishAt: '2031-01-01T00:00:00Z', version: 1 })
  const again = await enqueue({ pageId: id, publishAt: '2032-02-02T00:00:00.5Z' })
  const nextAt = new Date('2032-02-02T00:00:00.500Z')
  expect(again).toMatchObject({ workId, created: false, nextAt })
  expect(await discover()).toBe(1)
  const payload = { pageId: id, publishAt: '2032-02-02T00:00:00.500000Z' }
  expect(await pages.items(id)).toMatchObject([{ id: workId, nextAt, generation: 2 }])
  expect((await pages.items(id))[0]!.payload).toEqual(payload)
  expect(await database.db.select().from(pageRequests)).toEqual([])

  await enqueue({ pageId: id, version: 9 })
  expect(await discover()).toBe(1)
  expect((await pages.items(id))[0]!.payload).toEqual({ ...payload, version: 9 })
  expect(await database.db.select().from(pageRequests)).toMatchObject([{ version: 9, workId: null }])
  expect(await discover()).toBe(0)
})

test('owes an item again that ended while it was asked for, and waits for one that is locked', async () => {
  const id = await pages.page(siteId, null)
  const { workId } = await enqueue({ pageId: id, publishAt: '2031-01-01T00:00:00Z' })
  await enqueue({ pageId: id, publishAt: '2032-01-01T00:00:00Z' })
  await endItems('done')
  await database.db.transaction(async (tx) => {
    await tx.execute(sql`SELECT FROM website_worker.work WHERE id = ${workId} FOR UPDATE`)
    expect(await discover()).toBe(0)
  })
  expect(await discover()).toBe(1)
  expect(await pages.items(id)).toMatchObject([
    { id: workId, state: 'owed', nextAt: new Date('2032-01-01T00:00:00Z'), finishedAt: null },
  ])
})

test('leaves what is cancelled after it was asked for again', async () => {
  const id = await pages.page(siteId, null)
  await enqueue({ pageId: id, publishAt: '2031-01-01T00:00:00Z' })
  await enqueue({ pageId: id, publishAt: '2032-01-01T00:00:00Z' })
  await endItems('cancelled')
  expect(await discover()).toBe(0)
  expect(await pages.items(id)).toMatchObject([{ state: 'cancelled' }])
  expect(await database.db.select().from(pageRequests)).toEqual([])
})

test('what is held stays held at its new time, but for a version that was not the one', async () => {
  const [paused, pinned] = [await pages.page(siteId, null), await pages.page(siteId, null)]
  for (const pageId of [paused, pinned]) await enqueue({ pageId, publishAt: '2031-01-01T00:00:00Z' })
  await database.db.execute(
    sql`UPDATE website_worker.work SET state = 'held', reason = 'paused' WHERE key = ${String(paused)}`,
  )
  await database.db.execute(
    sql`UPDATE website_worker.work SET state = 'held', reason = 'version mismatch: 1 was asked for' WHERE key = ${String(pinned)}`,
  )
  for (const pageId of [paused, pinned]) await enqueue({ pageId, publishAt: '2032-01-01T00:00:00Z' })
  await discover()
  const nextAt = new Date('2032-01-01T00:00:00Z')
  expect(await pages.items(paused)).toMatchObject([{ state: 'held', reason: 'paused', nextAt }])
  expect(await pages.items(pinned)).toMatchObject([{ state: 'owed', reason: null, nextAt }])
  // The row alone does the same.
  await database.db.execute(
    sql`UPDATE website_worker.work SET state = 'held', reason = 'version mismatch: 1 was asked for' WHERE key = ${String(pinned)}`,
  )
  await pages.reschedule(pinned, 1_000)
  await discover()
  expect(await pages.items(pinned)).toMatchObject([{ state: 'owed', reason: null }])
})

test('owes nothing where publishing is off, nor what was due before it was switched on', async () => {
  await disableDomain(database.db, 'publishing')
  const [before, after] = [await pages.page(siteId, -1_000), await pages.page(siteId, 5_000)]
  expect(await discover()).toBe(0)
  await enableDomain(database.db, 'publishing')
  expect(await discover()).toBe(1)
  expect([await pages.items(before), await pages.items(after)]).toMatchObject([[], [{ state: 'owed' }]])
  // Asking for it is another matter.
  expect(await enqueue({ pageId: before })).toMatchObject({ state: 'owed', delayMs: 0 })
})

test('a site’s own switch wins, and a pause holds what comes due', async () => {
  const other = await pages.site()
  await disableDomain(database.db, 'publishing')
  await enableDomain(database.db, 'publishing', siteId)
  await pauseDomain(database.db, siteId, 'publishing')
  const [held, off] = [await pages.page(siteId, 5_000), await pages.page(other, 5_000)]
  expect(await discover()).toBe(1)
  expect([await pages.items(held), await pages.items(off)]).toMatchObject([[{ state: 'held', reason: 'paused' }], []])
})

test('waits neither for a page that someone has locked nor for an item someone is making', async () => {
  const [locked, asked, free] = [
    await pages.page(siteId, -3),
    await pages.page(siteId, -2),
    await pages.page(siteId, -1),
  ]
  await database.db
    .transaction(async (tx) => {
      await tx.execute(sql`UPDATE website_pages SET title = 'x' WHERE id = ${locked}`)
      await enqueueItem(tx, 'publish-page', { pageId: asked }, { rung: false })
      expect(await discover()).toBe(1)
      tx.rollback()
    })
    .catch(() => {})
  expect([await pages.items(locked), await pages.items(asked)]).toEqual([[], []])
  expect(await pages.items(free)).toHaveLength(1)
  expect(await discover()).toBe(2)
})

/** Scheduled pages, a millisecond apart, the first so long from now. */
const bulk = (count: number, dueInMs: number) =>
  database.db.execute(
    sql`INSERT INTO website_pages (site_id, slug, title, status, publish_at)
        SELECT ${siteId}, 'bulk-' || g, 'x', 'scheduled',
          (now() AT TIME ZONE 'UTC') + (${dueInMs} + g) * interval '1 ms' FROM generate_series(1, ${count}::int) g`,
  )

test('looks at the pages that are due alone, however many others there are', async () => {
  await database.db.execute(
    sql`INSERT INTO website_pages (site_id, slug, title, status, publish_at)
        SELECT ${siteId}, 'bulk-' || g, 'x', CASE WHEN g % 3 = 0 THEN 'scheduled' ELSE 'published' END,
          (now() AT TIME ZONE 'UTC') + g * interval '1 hour' FROM generate_series(1, 30000) g`,
  )
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, finished_at)
        SELECT 'deliver-webhook', g::text, '{}', 'done', now() FROM generate_series(1, 20000) g`,
  )
  for (let n = 0; n < 50; n++) await pages.page(siteId, n)
  await database.db.execute(sql`ANALYZE website_pages, website_worker.work`)
  const { db, plans } = explaining(database.db)
  await createPageDiscovery()(db)
  expect(plans.at(-1)).toMatch(/idx_website_pages_scheduled/)
  expect(plans.join('\n')).not.toMatch(/Seq Scan on (website_pages|work)/)
})

test('owes thousands in one call, oldest first, in parts that it locks no longer than it takes', async () => {
  await bulk(9_000, -86_400_000)
  const { db, plans } = explaining(database.db)
  expect(await createPageDiscovery()(db)).toBe(9_000)
  expect(plans.length).toBeGreaterThanOrEqual(5)
  const { rows } = await database.db.execute(
    sql`SELECT count(*)::int AS n, bool_and(ordered)::text AS ordered FROM (
          SELECT next_at >= lag(next_at, 1, next_at) OVER (ORDER BY id) AS ordered FROM website_worker.work) w`,
  )
  expect(rows).toEqual([{ n: 9_000, ordered: 'true' }])
})

test('looks at a part of what is held for long, goes on there, and sees what is due now at every call', async () => {
  await bulk(9_000, -86_400_000)
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, state, reason, next_at)
        SELECT 'publish-page', id::text, jsonb_build_object('pageId', id, 'publishAt',
          website_worker.instant_text(publish_at AT TIME ZONE 'UTC')), 'held', 'site inactive', now() FROM website_pages`,
  )
  await database.db.execute(sql`ANALYZE website_pages, website_worker.work`)
  const walking = createPageDiscovery()
  expect(await walking(database.db)).toBe(0)
  // Behind what a call looks at, and at once.
  const [behind, now] = [await pages.page(siteId, -3_600_000), await pages.page(siteId, -500)]
  expect(await walking(database.db)).toBe(1)
  expect([await pages.items(behind), await pages.items(now)]).toMatchObject([[], [{ state: 'owed' }]])
  expect(await walking(database.db)).toBe(1)
  // And from the beginning again.
  const oldest = await pages.page(siteId, -172_800_000)
  expect(await walking(database.db)).toBe(1)
  expect([await pages.items(behind), await pages.items(oldest)]).toMatchObject([
    [{ state: 'owed' }],
    [{ state: 'owed' }],
  ])
})

test('reads no page where publishing is off, nor what was due before it was enabled', async () => {
  await bulk(5_000, -86_400_000)
  await database.db.execute(sql`ANALYZE website_pages`)
  const plansOf = async () => {
    const { db, plans } = explaining(database.db)
    await createPageDiscovery()(db)
    return plans.filter((plan) => plan.includes('idx_website_pages_scheduled'))
  }
  await disableDomain(database.db, 'publishing')
  expect(await plansOf()).toEqual([])
  await enableDomain(database.db, 'publishing')
  for (const plan of await plansOf()) expect(plan).toMatch(/Index Cond: .*publish_at > /)
  expect(await database.db.select().from(work)).toEqual([])
})
