import { sql } from 'drizzle-orm'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { enqueueItem, registerJobs } from '../../src/db/queries/enqueue.ts'
import { askedAgain, domains, pageRequests, websitePages, websiteSites, work } from '../../src/db/schema/index.ts'
import { publishPage } from '../../src/queues/publish-page.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { connectAsMainApp, createSite, workOf } from './main-app.ts'
import { createRole } from './roles.ts'

let database: TestDatabase
/** Far from UTC, without a grant on what is ours. */
let mainApp: pg.Pool
let siteId: number

beforeAll(async () => {
  database = await createTestDatabase()
  mainApp = await connectAsMainApp(database)
  await registerJobs(database.db, [publishPage])
})
afterAll(async () => {
  await mainApp.end()
  await database.drop()
})
beforeEach(async () => {
  for (const table of [websiteSites, work, askedAgain, domains, pageRequests]) await database.db.delete(table)
  siteId = await createSite(database.db, { timezone: 'America/New_York' })
})

let count = 0
async function makePage(values: Partial<typeof websitePages.$inferInsert> = {}): Promise<number> {
  const [page] = await database.db
    .insert(websitePages)
    .values({ siteId, slug: `page-${++count}`, title: 'Page', ...values })
    .returning()
  return page!.id
}

async function pageOf(id: number) {
  const [page] = await database.db
    .select()
    .from(websitePages)
    .where(sql`id = ${id}`)
  return page!
}

const ask = (payload: object) =>
  mainApp
    .query<{ id: string }>('SELECT website_worker.enqueue($1, $2::jsonb) AS id', [
      'publish-page',
      JSON.stringify(payload),
    ])
    .then(({ rows }) => Number(rows[0]!.id))

/** What wall time at a site comes to, asked for in sessions of several zones. */
async function resolve(timezone: string | null, publishAt: string): Promise<string> {
  const site = await createSite(database.db, { timezone })
  const answers = new Set<string>()
  const nodeZone = process.env['TZ']
  try {
    for (const zone of ['UTC', 'Asia/Kolkata', 'America/Los_Angeles', 'Pacific/Auckland']) {
      process.env['TZ'] = zone
      const pageId = await makePage({ siteId: site })
      const client = await mainApp.connect()
      try {
        await client.query(`SET timezone = '${zone}'`)
        await client.query('SELECT website_worker.enqueue($1, $2)', ['publish-page', { pageId, publishAt }])
        await client.query('RESET timezone')
      } finally {
        client.release()
      }
      const { rows } = await database.db.execute(
        sql`SELECT w.next_at AT TIME ZONE 'UTC' = p.publish_at AS same, w.payload ->> 'publishAt' AS payload,
              to_char(p.publish_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at
            FROM website_pages p JOIN website_worker.work w ON w.key = p.id::text WHERE p.id = ${pageId}`,
      )
      expect(rows).toMatchObject([{ same: true }])
      expect(new Date(rows[0]!.payload as string).toISOString()).toBe(rows[0]!.at)
      answers.add(rows[0]!.at as string)
    }
  } finally {
    if (nodeZone === undefined) delete process.env['TZ']
    else process.env['TZ'] = nodeZone
  }
  expect([...answers]).toHaveLength(1)
  return [...answers][0]!
}

describe('wall time', () => {
  test.each([
    ['America/New_York', '2026-01-15T09:30', '2026-01-15T14:30:00.000Z'],
    ['America/New_York', '2026-07-15T09:30:15.25', '2026-07-15T13:30:15.250Z'],
    // The gap of 8 March, 2:00 to 3:00, and its edges.
    ['America/New_York', '2026-03-08T01:59:59', '2026-03-08T06:59:59.000Z'],
    ['America/New_York', '2026-03-08T02:00', '2026-03-08T07:00:00.000Z'],
    ['America/New_York', '2026-03-08T02:30', '2026-03-08T07:30:00.000Z'],
    ['America/New_York', '2026-03-08T03:00', '2026-03-08T07:00:00.000Z'],
    ['America/New_York', '2026-03-08T12:00', '2026-03-08T16:00:00.000Z'],
    // The overlap of 1 November, 1:00 to 2:00, and its edges.
    ['America/New_York', '2026-11-01T00:59:59', '2026-11-01T04:59:59.000Z'],
    ['America/New_York', '2026-11-01T01:00', '2026-11-01T05:00:00.000Z'],
    ['America/New_York', '2026-11-01T01:30', '2026-11-01T05:30:00.000Z'],
    ['America/New_York', '2026-11-01T01:59:59', '2026-11-01T05:59:59.000Z'],
    ['America/New_York', '2026-11-01T02:00', '2026-11-01T07:00:00.000Z'],
    ['America/New_York', '2026-11-01T12:00', '2026-11-01T17:00:00.000Z'],
    ['Europe/Berlin', '2026-03-29T01:59', '2026-03-29T00:59:00.000Z'],
    ['Europe/Berlin', '2026-03-29T02:30', '2026-03-29T01:30:00.000Z'],
    ['Europe/Berlin', '2026-03-29T03:00', '2026-03-29T01:00:00.000Z'],
    ['Europe/Berlin', '2026-10-25T01:59', '2026-10-24T23:59:00.000Z'],
    ['Europe/Berlin', '2026-10-25T02:00', '2026-10-25T00:00:00.000Z'],
    ['Europe/Berlin', '2026-10-25T02:30', '2026-10-25T00:30:00.000Z'],
    ['Europe/Berlin', '2026-10-25T03:00', '2026-10-25T02:00:00.000Z'],
    ['Asia/Kolkata', '2026-03-29T02:30', '2026-03-28T21:00:00.000Z'],
    ['Asia/Kolkata', '2026-11-01T01:30', '2026-10-31T20:00:00.000Z'],
    // Half an hour back, and the other way round.
    ['Australia/Lord_Howe', '2026-04-05T01:45', '2026-04-04T14:45:00.000Z'],
    ['Australia/Lord_Howe', '2026-10-04T02:15', '2026-10-03T15:45:00.000Z'],
    // A day that didn't happen.
    ['Pacific/Apia', '2011-12-30T12:00', '2011-12-30T22:00:00.000Z'],
    ['UTC', '2026-03-08T02:30', '2026-03-08T02:30:00.000Z'],
    [null, '2026-03-08T02:30', '2026-03-08T02:30:00.000Z'],
    ['', '2026-03-08T02:30', '2026-03-08T02:30:00.000Z'],
    ['Etc/GMT+5', '2026-03-08T02:30', '2026-03-08T07:30:00.000Z'],
  ])('at a site in %s %s is %s, wherever the servers are', async (zone, wall, instant) => {
    expect(await resolve(zone, wall)).toBe(instant)
  })

  test.each([
    ['2026-03-08T02:30:00Z', '2026-03-08T02:30:00.000Z'],
    ['2026-03-08T02:30:00+05:30', '2026-03-07T21:00:00.000Z'],
    ['2026-11-01T01:30:00.123-04:00', '2026-11-01T05:30:00.123Z'],
    ['2026-11-01T01:30:00.123-05:00', '2026-11-01T06:30:00.123Z'],
  ])('is not what an instant is taken for: %s', async (instant, expected) => {
    expect(await resolve('America/New_York', instant)).toBe(expected)
  })

  test('is refused where the timezone of the site is none', async () => {
    for (const timezone of ['Mars/Phobos', 'UTC+3', '+05:30', 'nonsense', "x'; DROP TABLE"]) {
      await database.db.update(websiteSites).set({ timezone })
      const pageId = await makePage()
      await expect(ask({ pageId, publishAt: '2026-03-01T10:00' })).rejects.toMatchObject({
        code: '22023',
        column: 'publishAt',
        message: expect.stringContaining('timezone'),
      })
      await ask({ pageId, publishAt: '2026-03-01T10:00:00Z' })
    }
  })
})

test('makes a draft a scheduled page, and owes it for that very instant', async () => {
  const pageId = await makePage()
  const id = await ask({ pageId, publishAt: '2031-01-01T00:00:00Z', version: 3 })
  expect(await pageOf(pageId)).toMatchObject({ status: 'scheduled', publishAt: new Date('2031-01-01T00:00:00Z') })
  expect(await workOf(database.db, 'publish-page')).toMatchObject([
    {
      id,
      siteId,
      state: 'owed',
      nextAt: new Date('2031-01-01T00:00:00Z'),
      rungAt: null,
      payload: { pageId, publishAt: '2031-01-01T00:00:00.000000Z', version: 3 },
    },
  ])
  expect(publishPage.schema.safeParse((await workOf(database.db, 'publish-page'))[0]!.payload).success).toBe(true)
})

test('takes no time for now, unless the page is scheduled', async () => {
  const [draft, scheduled] = [
    await makePage({ status: 'draft', publishAt: new Date('2031-05-05T00:00:00Z') }),
    await makePage({ status: 'scheduled', publishAt: new Date('2031-05-05T00:00:00.123Z') }),
  ]
  const now = await enqueueItem(database.db, 'publish-page', { pageId: draft }, { rung: true })
  const later = await enqueueItem(database.db, 'publish-page', { pageId: scheduled }, { rung: true })
  expect([now.delayMs, later.nextAt]).toEqual([0, new Date('2031-05-05T00:00:00.123Z')])
  expect(await pageOf(draft)).toMatchObject({ status: 'scheduled', publishAt: now.nextAt })
  expect(await pageOf(scheduled)).toMatchObject({ status: 'scheduled', publishAt: later.nextAt })
  const items = await workOf(database.db, 'publish-page')
  expect(items.map((item) => item.rungAt !== null)).toEqual([true, false])
})

test('leaves a published page as it is, and says so to whoever gives it a time to come', async () => {
  const publishedAt = new Date('2020-01-01T00:00:00Z')
  const pageId = await makePage({ status: 'published', publishedAt })
  for (const payload of [{ pageId }, { pageId, publishAt: '2020-01-01T00:00:00Z' }]) {
    await ask(payload)
    await database.db.delete(work)
  }
  await expect(ask({ pageId, publishAt: '2031-01-01T00:00:00Z' })).rejects.toMatchObject({
    code: '55000',
    message: `page ${pageId} is published already: it can't be published again at 2031-01-01T00:00:00Z`,
  })
  expect(await workOf(database.db, 'publish-page')).toEqual([])
  expect(await pageOf(pageId)).toMatchObject({ status: 'published', publishedAt, publishAt: null })
})

test('writes nothing when the transaction is rolled back', async () => {
  const pageId = await makePage()
  const client = await mainApp.connect()
  await client.query('BEGIN')
  await client.query('SELECT website_worker.enqueue($1, $2)', ['publish-page', { pageId, version: 1 }])
  await client.query('ROLLBACK')
  client.release()
  expect(await pageOf(pageId)).toMatchObject({ status: 'draft', publishAt: null })
  expect(await workOf(database.db, 'publish-page')).toEqual([])
  expect(await database.db.select().from(pageRequests)).toEqual([])
})

test('asked again it changes the row and notes the item, without a lock on that', async () => {
  const pageId = await makePage()
  const id = await ask({ pageId, publishAt: '2031-01-01T00:00:00Z' })
  const client = await mainApp.connect()
  await client.query('BEGIN')
  const payload = { pageId, publishAt: '2031-02-02T00:00:00Z', version: 7 }
  const { rows } = await client.query('SELECT website_worker.enqueue($1, $2) AS id', ['publish-page', payload])
  expect(Number(rows[0].id)).toBe(id)
  await database.db.transaction(async (tx) => {
    await tx.execute(sql`SET LOCAL lock_timeout = '1s'`)
    await tx.update(work).set({ progress: {} })
  })
  await client.query('COMMIT')
  client.release()
  const publishAt = new Date('2031-02-02T00:00:00Z')
  expect(await pageOf(pageId)).toMatchObject({ status: 'scheduled', publishAt })
  expect(await database.db.select().from(pageRequests)).toEqual([{ pageId, publishAt, version: 7, workId: id }])
  expect(await database.db.select().from(askedAgain)).toEqual([])
  // Without a version none is wanted any more.
  await ask({ pageId })
  expect(await database.db.select().from(pageRequests)).toEqual([{ pageId, publishAt, version: null, workId: id }])
})

test('holds the item, and schedules the page, while publishing is off', async () => {
  await database.db.insert(domains).values({ domain: 'publishing', enabled: false })
  const pageId = await makePage()
  const item = await enqueueItem(database.db, 'publish-page', { pageId }, { rung: true })
  expect(item).toMatchObject({ state: 'held', reason: 'domain off' })
  expect(await pageOf(pageId)).toMatchObject({ status: 'scheduled' })
})

test('names what is wrong, and writes nothing', async () => {
  const pageId = await makePage()
  const deleted = await makePage({ deletedAt: new Date() })
  const refuse = (payload: object, column: string) =>
    expect(ask(payload), JSON.stringify(payload)).rejects.toMatchObject({ code: '22023', column })
  for (const publishAt of [
    '',
    'tomorrow',
    '2026-03-08',
    '2026-02-30T00:00',
    '2026-13-01T00:00Z',
    '2026-01-01T24:00',
    '2026-01-01T00:00:60Z',
    '2026-01-01 00:00',
    '0000-01-01T00:00Z',
    '2026-01-01T00:00:00+23:59',
    '2026-01-01T00:00:00Z; SELECT 1',
    '9999-12-31T23:59:00Z',
    'infinity',
    5,
    null,
    ['2026-01-01T00:00Z'],
  ])
    await refuse({ pageId, publishAt }, 'publishAt')
  for (const version of [0, -1, 1.5, '1', 3_000_000_000, 1e20, null, true]) await refuse({ pageId, version }, 'version')
  await refuse({ pageId: deleted }, 'pageId')
  await refuse({ pageId: 2_000_000_000 }, 'pageId')
  expect(await pageOf(pageId)).toMatchObject({ status: 'draft', publishAt: null })
  expect(await workOf(database.db, 'publish-page')).toEqual([])
})

test('refuses a role that may not write pages itself, however it became that role', async () => {
  const pageId = await makePage()
  const role = await createRole(database.pool)
  const own = new pg.Pool({ connectionString: role.urlOf(database.url) })
  const set = new pg.Pool({ connectionString: database.url, options: `-c role=${role.name}` })
  const asRole = (pool: pg.Pool) =>
    pool.query('SELECT website_worker.enqueue($1, $2)', ['publish-page', { pageId, publishAt: '2031-01-01T00:00Z' }])
  const refusal = { code: '42501', message: expect.stringContaining(`role ${role.name} may not publish pages`) }
  try {
    for (const grant of ['SELECT', 'UPDATE (title, publish_at)']) {
      await database.pool.query(`GRANT ${grant} ON website_pages TO ${role.name}`)
      for (const pool of [own, set]) await expect(asRole(pool)).rejects.toMatchObject(refusal)
    }
    expect(await pageOf(pageId)).toMatchObject({ status: 'draft', publishAt: null })
    expect(await workOf(database.db, 'publish-page')).toEqual([])
    await database.pool.query(`GRANT UPDATE (status) ON website_pages TO ${role.name}`)
    for (const pool of [own, set]) await asRole(pool)
    expect(await pageOf(pageId)).toMatchObject({ status: 'scheduled' })
  } finally {
    await Promise.all([own.end(), set.end()])
  }
})
