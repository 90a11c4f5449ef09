import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type Database } from '../../src/db/client.ts'
import { publishPages } from '../../src/db/queries/publish.ts'
import { pageRequests } from '../../src/db/schema/index.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { pagesOf, type Pages } from '../processors/publish-fixtures.ts'
import { createWebhook } from './main-app.ts'

let database: TestDatabase
/** As the worker's own: it waits for nobody's lock. */
let impatient: Database
let pages: Pages
let siteId: number
beforeAll(async () => {
  database = await createTestDatabase()
  impatient = createDatabase({ url: database.url, max: 4, lockTimeoutMs: 200 })
  pages = pagesOf(database.db)
  siteId = await pages.site()
  await createWebhook(database.db, siteId, { event: 'content.published' })
})
afterAll(async () => {
  await impatient.close()
  await database.drop()
})

const publish = (...ids: number[]) => publishPages(impatient.db, ids)

test('publishes a page with its version, its audit row and its event, all of one instant', async () => {
  const id = await pages.page(siteId, -1_000, {
    slug: 'spring',
    title: 'Spring “sale”',
    version: 4,
    blocks: [{ type: 'text', text: 'Hi' }],
    seoTitle: 'S',
    seoDescription: 'D',
  })
  const [publication] = await publish(id)
  expect(publication).toMatchObject({ kind: 'published', version: 4 })
  const { publishedAt, latenessMs } = publication as { publishedAt: Date; latenessMs: number }
  expect(latenessMs).toBeGreaterThanOrEqual(1_000)
  const page = await pages.read(id)
  expect(page).toMatchObject({ status: 'published', publishedAt })
  expect(publishedAt.getTime() - page.publishAt!.getTime()).toBeCloseTo(latenessMs, -1)
  expect(await pages.versions(id)).toMatchObject([
    {
      version: 4,
      title: 'Spring “sale”',
      blocks: [{ type: 'text', text: 'Hi' }],
      seoTitle: 'S',
      seoDescription: 'D',
      createdAt: publishedAt,
    },
  ])
  expect(await pages.audit(id)).toMatchObject([
    {
      siteId,
      action: 'page.published',
      resourceName: 'Spring “sale”',
      changes: { status: { from: 'scheduled', to: 'published' }, version: 4 },
      createdAt: publishedAt,
    },
  ])
  const data = { pageId: id, siteId, slug: 'spring', title: 'Spring “sale”', version: 4 }
  expect(await pages.events(id)).toMatchObject([
    {
      event: 'content.published',
      siteId,
      body: {
        timestamp: publishedAt.toISOString(),
        data: { ...data, publishedAt: publishedAt.toISOString() },
      },
    },
  ])
  const { rows } = await database.db.execute(
    sql`SELECT state, rung_at FROM website_worker.work WHERE job = 'deliver-webhook'`,
  )
  expect(rows).toEqual([{ state: 'owed', rung_at: null }])
})

test('does it once, however often and from however many sides it is asked', async () => {
  const ids = await Promise.all(Array.from({ length: 40 }, () => pages.page(siteId, -1)))
  const all = await Promise.all([publish(...ids), publish(...ids.toReversed()), publish(...ids, ...ids)])
  await publish(...ids)
  expect(all.flat().filter(({ kind }) => kind === 'failed')).toEqual([])
  for (const id of ids) {
    expect(await pages.read(id)).toMatchObject({ status: 'published' })
    const done = [await pages.versions(id), await pages.audit(id), await pages.events(id)]
    expect(done.map((rows) => rows.length)).toEqual([1, 1, 1])
  }
})

test('leaves alone what is not to be published now, and says why', async () => {
  const inactive = await pages.site({ status: 'inactive' })
  const maintained = await pages.site({ status: 'maintenance' })
  const deleted = await pages.site({ deletedAt: new Date(), status: 'active' })
  const ids = [
    await pages.page(siteId, 60_000),
    await pages.page(siteId, -1, { status: 'draft' }),
    await pages.page(siteId, -1, { status: 'archived' }),
    await pages.page(siteId, -1, { status: 'published' }),
    await pages.page(siteId, -1, { deletedAt: new Date() }),
    await pages.page(siteId, null),
    await pages.page(inactive, -1),
    await pages.page(maintained, -1),
    await pages.page(deleted, -1),
    2_000_000_000,
  ]
  expect(await publish(...ids)).toMatchObject([
    { kind: 'early' },
    { kind: 'unneeded', why: 'the page is not scheduled but draft' },
    { kind: 'unneeded', why: 'the page is not scheduled but archived' },
    { kind: 'unneeded', why: 'the page is published already' },
    { kind: 'unneeded', why: 'the page is deleted' },
    { kind: 'unneeded', why: 'the page is scheduled for no time' },
    { kind: 'held', reason: 'site inactive' },
    { kind: 'held', reason: 'site in maintenance' },
    { kind: 'held', reason: 'site deleted' },
    { kind: 'unneeded', why: 'the page is deleted' },
  ])
  for (const id of ids.slice(0, -1)) {
    expect((await pages.read(id)).publishedAt).toBeNull()
    expect([...(await pages.versions(id)), ...(await pages.audit(id)), ...(await pages.events(id))]).toEqual([])
  }
})

test('keeps a version that is there, and makes one for a page that never had one', async () => {
  const [kept, none] = [await pages.page(siteId, -1, { version: 2 }), await pages.page(siteId, -1, { version: null })]
  await database.db.execute(
    sql`INSERT INTO website_page_versions (page_id, version, title) VALUES (${kept}, 1, 'first'), (${kept}, 2, 'second')`,
  )
  await publish(kept, none)
  expect((await pages.versions(kept)).map((row) => row.title)).toEqual(['first', 'second'])
  expect(await pages.versions(none)).toMatchObject([{ version: 1 }])
})

test('publishes a page of no site without an event', async () => {
  const id = await pages.page(null, -1)
  expect(await publish(id)).toMatchObject([{ kind: 'published' }])
  expect(await pages.events(id)).toEqual([])
  expect(await pages.audit(id)).toMatchObject([{ action: 'page.published', siteId: null }])
})

test('publishes no other version than the one asked for, at the time it was asked for', async () => {
  const ids = [await pages.page(siteId, -1, { version: 3 }), await pages.page(siteId, -1, { version: 3 })]
  ids.push(await pages.page(siteId, -1, { version: 3 }))
  const pin = async (pageId: number, version: number, publishAt?: Date) =>
    database.db.insert(pageRequests).values({
      pageId,
      version,
      publishAt:
        publishAt ?? (sql`(SELECT publish_at AT TIME ZONE 'UTC' FROM website_pages WHERE id = ${pageId})` as never),
    })
  await pin(ids[0]!, 3)
  await pin(ids[1]!, 2)
  await pin(ids[2]!, 2, new Date('2020-01-01'))
  expect(await publish(...ids)).toMatchObject([
    { kind: 'published' },
    { kind: 'mismatch', wanted: 2, version: 3 },
    { kind: 'published' },
  ])
  expect((await pages.read(ids[1]!)).status).toBe('scheduled')
  expect((await database.db.select().from(pageRequests)).map((row) => row.pageId)).toEqual([ids[1]])
})

test('a page that can’t be published keeps none of the others from it', async () => {
  await database.db.execute(
    sql`ALTER TABLE website_pages ADD CONSTRAINT tame CHECK (slug NOT LIKE 'wild%' OR status <> 'published')`,
  )
  const ids: number[] = []
  for (let n = 0; n < 60; n++) ids.push(await pages.page(siteId, -1, n % 20 === 7 ? { slug: `wild-${n}` } : {}))
  const publications = await publish(...ids)
  await database.db.execute(sql`ALTER TABLE website_pages DROP CONSTRAINT tame`)
  const failed = publications.flatMap((publication, n) =>
    publication.kind === 'failed' ? [[n, publication.error]] : [],
  )
  expect(failed.map(([n]) => n)).toEqual([7, 27, 47])
  expect(failed[0]![1]).toMatch(/tame/)
  expect(publications.filter(({ kind }) => kind === 'published')).toHaveLength(57)
  for (const [n, id] of ids.entries()) {
    const once = n % 20 === 7 ? 0 : 1
    expect([(await pages.versions(id)).length, (await pages.audit(id)).length]).toEqual([once, once])
    expect(await pages.events(id)).toHaveLength(once)
  }
})

test.each([
  ['the page', (id: number) => sql`SELECT FROM website_pages WHERE id = ${id} FOR UPDATE`],
  [
    'a webhook of its site',
    (_: number, site: number) => sql`SELECT FROM website_webhooks WHERE site_id = ${site} FOR UPDATE`,
  ],
  ['a version of its own', (id: number) => sql`INSERT INTO website_page_versions (page_id, version) VALUES (${id}, 1)`],
])('waits for nobody who has locked %s, and leaves the other pages to go out', async (_, lock) => {
  const site = await pages.site()
  await createWebhook(database.db, site, { event: 'content.published' })
  const [id, other] = [await pages.page(site, -1), await pages.page(siteId, -1)]
  await database.db
    .transaction(async (tx) => {
      await tx.execute(lock(id, site))
      expect(await publish(id, other)).toMatchObject([{ kind: 'later' }, { kind: 'published' }])
      tx.rollback()
    })
    .catch(() => {})
  expect([await pages.events(id), await pages.audit(id), await pages.versions(id)]).toEqual([[], [], []])
  expect(await publish(id, other)).toMatchObject([{ kind: 'published' }, { kind: 'unneeded' }])
})

test('traffic on a page doesn’t stand in its way', async () => {
  const id = await pages.page(siteId, -1)
  await database.db
    .transaction(async (tx) => {
      await tx.execute(sql`INSERT INTO website_pageviews (site_id, page_id, page_path) VALUES (${siteId}, ${id}, '/')`)
      expect(await publish(id)).toMatchObject([{ kind: 'published' }])
      tx.rollback()
    })
    .catch(() => {})
})

test('says so when the database can’t be asked', async () => {
  const gone = createDatabase({ url: 'postgres://nobody@127.0.0.1:1/none', max: 1 })
  await expect(publishPages(gone.db, [1, 2])).rejects.toThrow()
  await gone.close()
})
