import { eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { registerJobs } from '../../src/db/queries/enqueue.ts'
import { websitePages, websiteSites, work } from '../../src/db/schema/index.ts'
import { publishPage } from '../../src/queues/publish-page.ts'
import { createApi, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let siteId: number
beforeAll(async () => {
  api = await createApi({ jobs: [publishPage] })
  await registerJobs(api.db, [publishPage])
  const [site] = await api.db
    .insert(websiteSites)
    .values({ name: 'Shop', domain: 'shop.example', timezone: 'Europe/Berlin' })
    .returning()
  siteId = site!.id
})
afterAll(() => api.close())
beforeEach(() => void (api.rung.length = 0))

let count = 0
async function makePage(values: Partial<typeof websitePages.$inferInsert> = {}): Promise<number> {
  const [page] = await api.db
    .insert(websitePages)
    .values({ siteId, slug: `page-${++count}`, title: 'Page', ...values })
    .returning()
  return page!.id
}
const ask = (body: object, headers?: Record<string, string>) => api.send('POST', '/v1/jobs/publish-page', body, headers)
const pageOf = async (id: number) => (await api.db.select().from(websitePages).where(eq(websitePages.id, id)))[0]!

test('tells the instant that wall time of the site was taken for, and schedules the page', async () => {
  const pageId = await makePage()
  const response = await ask({ pageId, publishAt: '2031-10-26T02:30' })
  expect(response.statusCode).toBe(202)
  const answer = response.json()
  expect(answer).toEqual({
    jobId: expect.any(String),
    state: 'delayed',
    href: `/v1/jobs/publish-page/${answer.jobId}`,
    publishAt: '2031-10-26T00:30:00.000Z',
  })
  expect(await pageOf(pageId)).toMatchObject({ status: 'scheduled', publishAt: new Date('2031-10-26T00:30:00Z') })
  expect((await api.send('GET', answer.href)).json()).toMatchObject({
    state: 'delayed',
    nextAt: '2031-10-26T00:30:00.000Z',
    payload: { pageId, publishAt: '2031-10-26T00:30:00.000000Z' },
  })
  expect(api.rung).toEqual([])
})

test('answers with the same job at its new time when the page is asked for again', async () => {
  const pageId = await makePage()
  const first = (await ask({ pageId, publishAt: '2031-01-01T00:00:00Z' })).json()
  const again = (await ask({ pageId, publishAt: '2031-01-01T00:00:00+05:30' })).json()
  expect(again).toEqual({ ...first, publishAt: '2030-12-31T18:30:00.000Z' })
  expect((await pageOf(pageId)).publishAt).toEqual(new Date('2030-12-31T18:30:00Z'))
})

test('rings what is due within a minute itself, in time for its run to be ready', async () => {
  const now = await makePage()
  await ask({ pageId: now })
  expect(api.rung).toMatchObject([{ job: 'publish-page', delayMs: 0 }])
  const { rows } = await api.db.execute(
    sql`SELECT to_char(now() + interval '40 s', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS soon`,
  )
  await ask({ pageId: await makePage(), publishAt: rows[0]!.soon })
  expect(api.rung[1]!.delayMs).toBeGreaterThan(1_000)
  expect(api.rung[1]!.delayMs).toBeLessThanOrEqual(40_000 - 200)
  const items = await api.db
    .select()
    .from(work)
    .where(sql`rung_at IS NOT NULL`)
  expect(items).toHaveLength(2)
})

test('answers a repeated request under its key as it did, and changes nothing', async () => {
  const pageId = await makePage()
  const key = { 'idempotency-key': 'publish-1' }
  const first = await ask({ pageId, publishAt: '2031-01-01T00:00' }, key)
  await api.db.update(websitePages).set({ status: 'draft', publishAt: null }).where(eq(websitePages.id, pageId))
  const again = await ask({ pageId, publishAt: '2031-01-01T00:00' }, key)
  expect(again.headers['idempotent-replayed']).toBe('true')
  expect(again.json()).toEqual(first.json())
  expect(await pageOf(pageId)).toMatchObject({ status: 'draft', publishAt: null })
})

test('says that a page is published already, unless nothing is asked for that is not so', async () => {
  const pageId = await makePage({ status: 'published', publishedAt: new Date('2020-01-01T00:00:00Z') })
  const before = await api.db.select().from(work)
  for (const headers of [undefined, { 'idempotency-key': 'published-1' }]) {
    const refused = await ask({ pageId, publishAt: '2031-01-01T00:00:00Z' }, headers)
    expect([refused.statusCode, refused.json().field]).toEqual([409, 'publishAt'])
    expect(refused.json().detail).toContain('is published already')
  }
  expect(await api.db.select().from(work)).toEqual(before)
  const [first, again] = [await ask({ pageId }), await ask({ pageId, publishAt: '2020-01-01T00:00:00Z' })]
  expect([first.statusCode, again.statusCode]).toEqual([202, 202])
  expect(again.json().jobId).toBe(first.json().jobId)
})

test('names the field that is wrong, and writes nothing', async () => {
  const pageId = await makePage()
  const before = await api.db.select().from(work)
  for (const [body, field] of [
    [{ pageId, publishAt: 'tomorrow' }, 'publishAt'],
    [{ pageId, publishAt: '2031-02-30T00:00:00Z' }, 'publishAt'],
    [{ pageId, publishAt: '0000-01-01T00:00:00Z' }, 'publishAt'],
    [{ pageId, publishAt: '9999-12-31T23:59:59Z' }, 'publishAt'],
    [{ pageId, publishAt: 5 }, 'publishAt'],
    [{ pageId, publishAt: null }, 'publishAt'],
    [{ pageId, version: 0 }, 'version'],
    [{ pageId, version: 1.5 }, 'version'],
    [{ pageId: 2_000_000_000 }, 'pageId'],
    [{ pageId: await makePage({ deletedAt: new Date() }) }, 'pageId'],
    [{}, 'pageId'],
    [{ pageId, when: 'now' }, 'when'],
  ] as const) {
    const response = await ask(body)
    expect([response.statusCode, response.json().field], JSON.stringify(body)).toEqual([422, field])
  }
  expect(await api.db.select().from(work)).toEqual(before)
  expect(await pageOf(pageId)).toMatchObject({ status: 'draft', publishAt: null })
})
