import { sql } from 'drizzle-orm'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { z } from 'zod'
import { createDatabase } from '../../src/db/client.ts'
import { enqueueItem, forgetJobs, registerJobs } from '../../src/db/queries/enqueue.ts'
import {
  askedAgain,
  domains,
  jobs,
  websiteForms,
  websiteFormSubmissions,
  websitePages,
  websiteSites,
  work,
} from '../../src/db/schema/index.ts'
import { defineJob, type JobDefinition } from '../../src/queues/define-job.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { connectAsMainApp, createSite, workOf } from './main-app.ts'

const shared = { retry: { waitsMs: [0] }, worker: { concurrency: 1 } }
const catalog: JobDefinition[] = [
  defineJob({
    ...shared,
    name: 'render-page',
    domain: 'publishing',
    schema: z.object({ pageId: z.int(), version: z.int().optional() }),
    key: ['pageId'],
    subject: { field: 'pageId', table: 'website_pages' },
  }),
  defineJob({
    ...shared,
    name: 'create-lead',
    domain: 'leads',
    schema: z.object({ submissionId: z.int() }),
    key: ['submissionId'],
    subject: { field: 'submissionId', table: 'website_form_submissions' },
  }),
  defineJob({
    ...shared,
    name: 'sync-products',
    domain: 'erp',
    schema: z.object({ siteId: z.int(), mode: z.string() }),
    key: ['siteId', 'mode'],
    subject: { field: 'siteId', table: 'website_sites' },
  }),
  defineJob({
    ...shared,
    name: 'sync-stock',
    domain: 'erp',
    schema: z.object({ siteId: z.int(), force: z.boolean().optional(), skus: z.array(z.string()).optional() }),
    key: ['siteId'],
    optionalKey: ['force', 'skus'],
    subject: { field: 'siteId', table: 'website_sites' },
  }),
  defineJob({ ...shared, name: 'tidy', domain: 'maintenance', schema: z.object({}), key: [], scope: 'ops' }),
]

let database: TestDatabase
let mainApp: pg.Pool
let siteId: number
let pageId: number

beforeAll(async () => {
  database = await createTestDatabase()
  mainApp = await connectAsMainApp(database)
})
afterAll(async () => {
  await mainApp.end()
  await database.drop()
})
beforeEach(async () => {
  const { db } = database
  for (const table of [websiteSites, work, askedAgain, domains, jobs]) await db.delete(table)
  await registerJobs(db, catalog)
  siteId = await createSite(db)
  const [page] = await db.insert(websitePages).values({ siteId, slug: 'home', title: 'Home' }).returning()
  pageId = page!.id
})

const enqueue = (job: string | null, payload: unknown) =>
  mainApp
    .query<{ id: string }>('SELECT website_worker.enqueue($1, $2::jsonb) AS id', [job, JSON.stringify(payload)])
    .then(({ rows }) => Number(rows[0]!.id))

test('owes the job for a role without any grant, at the site of its row', async () => {
  const id = await enqueue('render-page', { pageId, version: 3 })
  expect(await workOf(database.db, 'render-page')).toMatchObject([
    {
      id,
      key: String(pageId),
      siteId,
      payload: { pageId, version: 3 },
      state: 'owed',
      rungAt: null,
      trigger: 'request',
    },
  ])
})

test('finds the site of a submission through its form, and takes a site for itself', async () => {
  const [form] = await database.db.insert(websiteForms).values({ siteId, name: 'F', slug: 'f', fields: [] }).returning()
  const [submission] = await database.db
    .insert(websiteFormSubmissions)
    .values({ formId: form!.id, data: {} })
    .returning()
  await enqueue('create-lead', { submissionId: submission!.id })
  await enqueue('sync-products', { siteId, mode: 'full' })
  const items = await database.db.select().from(work).orderBy(work.id)
  expect(items.map((item) => [item.key, item.siteId, item.label])).toEqual([
    [String(submission!.id), siteId, `create-lead ${submission!.id}`],
    [`${siteId}:full`, siteId, `sync-products ${siteId}:full`],
  ])
})

test('tells items apart by optional fields where they are there', async () => {
  const plain = await enqueue('sync-stock', { siteId })
  expect(await enqueue('sync-stock', { siteId, force: null })).toBe(plain)
  const some = await enqueue('sync-stock', { siteId, skus: ['A', 'B'] })
  expect(await enqueue('sync-stock', { skus: ['A', 'B'], siteId })).toBe(some)
  await enqueue('sync-stock', { siteId, skus: ['A'] })
  await enqueue('sync-stock', { siteId, force: true })
  const keys = (await workOf(database.db, 'sync-stock')).map((item) => item.key)
  expect(new Set(keys).size).toBe(4)
  expect(keys).toContain(String(siteId))
  expect(keys).toContain(`${siteId}:force=true`)
})

test('returns the unfinished item with the same key, and a new one once that has ended', async () => {
  const id = await enqueue('render-page', { pageId })
  expect(await enqueue('render-page', { pageId, version: 2 })).toBe(id)
  for (const state of ['running', 'held'] as const) {
    await database.db.update(work).set({ state })
    expect(await enqueue('render-page', { pageId })).toBe(id)
  }
  await database.db.update(work).set({ state: 'done', finishedAt: new Date() })
  expect(await enqueue('render-page', { pageId })).toBeGreaterThan(id)
})

test.each(['owed', 'running', 'held'] as const)(
  'keeps nobody from an item that is %s while the asker leaves its transaction open',
  async (state) => {
    const id = await enqueue('render-page', { pageId })
    await database.db.update(work).set({ state })
    const client = await mainApp.connect()
    await client.query('BEGIN')
    await client.query('SELECT website_worker.enqueue($1, $2)', ['render-page', { pageId }])
    await database.db.transaction(async (tx) => {
      await tx.execute(sql`SET LOCAL lock_timeout = '1s'`)
      await tx.update(work).set({ state: 'done', finishedAt: new Date() })
    })
    expect(await database.db.select().from(askedAgain)).toEqual([])
    await client.query('COMMIT')
    client.release()
    expect(await database.db.select().from(askedAgain)).toMatchObject([{ workId: id }])
  },
)

test('notes an ask for what is owed already, but not that of a schedule', async () => {
  const { workId } = await enqueueItem(database.db, 'render-page', { pageId }, { rung: true })
  await enqueueItem(database.db, 'render-page', { pageId }, { rung: false, trigger: 'schedule' })
  expect(await database.db.select().from(askedAgain)).toEqual([])
  const again = await enqueueItem(database.db, 'render-page', { pageId }, { rung: true })
  expect(again).toMatchObject({ workId, key: String(pageId), siteId, state: 'owed', generation: 1, created: false })
  expect(await database.db.select().from(askedAgain)).toMatchObject([{ workId, askedAt: expect.any(Date) }])
})

test('leaves nothing behind a transaction that is rolled back', async () => {
  const client = await mainApp.connect()
  await client.query('BEGIN')
  await client.query('SELECT website_worker.enqueue($1, $2)', ['render-page', { pageId }])
  await client.query('ROLLBACK')
  client.release()
  expect(await workOf(database.db, 'render-page')).toEqual([])
})

test('makes one item however many connections ask at once', async () => {
  const connections = Array.from({ length: 8 }, () => createDatabase({ url: database.url, max: 1 }))
  try {
    for (let round = 0; round < 10; round++) {
      const items = await Promise.all(
        connections.map(({ db }) => enqueueItem(db, 'sync-products', { siteId, mode: `m${round}` }, { rung: true })),
      )
      expect(new Set(items.map((item) => item.workId)).size).toBe(1)
      expect(items.filter((item) => item.created)).toHaveLength(1)
    }
  } finally {
    await Promise.all(connections.map((connection) => connection.close()))
  }
})

test('holds the item while its domain or site is switched off', async () => {
  await database.db.insert(domains).values({ domain: 'publishing', enabled: false })
  const item = await enqueueItem(database.db, 'render-page', { pageId }, { rung: true })
  expect(item).toMatchObject({ state: 'held', reason: 'domain off', created: true, siteId })
  expect(await workOf(database.db, 'render-page')).toMatchObject([{ rungAt: null }])
})

test('promises the ring only where it was asked to, and says who asked', async () => {
  const rung = await enqueueItem(database.db, 'render-page', { pageId }, { rung: true, trigger: 'discovery' })
  expect(rung).toMatchObject({ job: 'render-page', generation: 1, attempts: 0, delayMs: 0 })
  const [item] = await workOf(database.db, 'render-page')
  expect(item).toMatchObject({ rungAt: expect.any(Date), trigger: 'discovery' })
})

test('names the job or the field that is wrong', async () => {
  const invalid = (column: string, message: RegExp) => ({
    code: '22023',
    column,
    message: expect.stringMatching(message),
  })
  const known = /known jobs: create-lead, render-page, sync-products, sync-stock$/
  await expect(enqueue('render-pages', {})).rejects.toMatchObject(invalid('job', known))
  await expect(enqueue('tidy', {})).rejects.toMatchObject(invalid('job', known))
  await expect(enqueue(null, {})).rejects.toMatchObject(invalid('job', /null is unknown/))
  for (const payload of [null, [], 'x', 7]) {
    await expect(enqueue('render-page', payload)).rejects.toMatchObject(invalid('payload', /object/))
  }
  await expect(enqueue('render-page', {})).rejects.toMatchObject(invalid('pageId', /pageId is required/))
  await expect(enqueue('render-page', { pageId: null })).rejects.toMatchObject(invalid('pageId', /required/))
  await expect(enqueue('render-page', { pageId: [1] })).rejects.toMatchObject(invalid('pageId', /required/))
  await expect(enqueue('sync-products', { siteId })).rejects.toMatchObject(invalid('mode', /mode is required/))
  await expect(enqueue('sync-products', { siteId, mode: 'x'.repeat(2_000) })).rejects.toMatchObject(
    invalid('siteId', /too long/),
  )
  for (const bad of ['1', 0, -1, 1.5, 2_147_483_648, 1e300, true]) {
    await expect(enqueue('render-page', { pageId: bad })).rejects.toMatchObject(
      invalid('pageId', /must be the id|long/),
    )
  }
  await expect(enqueue('render-page', { pageId: 2_000_000_000 })).rejects.toMatchObject(
    invalid('pageId', /2000000000: no such row of website_pages/),
  )
  await database.db.execute(sql`UPDATE website_sites SET deleted_at = now()`)
  await expect(enqueue('sync-products', { siteId, mode: 'a' })).rejects.toMatchObject(invalid('siteId', /no such row/))
  expect(await database.db.select().from(work)).toEqual([])
})

test('turns the refusal into an AppError that names the field', async () => {
  for (const [payload, field] of [
    [{}, 'pageId'],
    [{ pageId, note: '\u0000' }, 'payload'],
    [{ pageId, note: '\ud800' }, 'payload'],
  ] as const) {
    const refused = enqueueItem(database.db, 'render-page', payload, { rung: true })
    await expect(refused).rejects.toMatchObject({ name: 'AppError', code: 'invalid', field })
  }
})

test('registers what changed, and leaves what another release may be working on', async () => {
  const version = () => database.db.execute(sql`SELECT job, xmin FROM website_worker.jobs ORDER BY job`)
  const before = (await version()).rows
  await registerJobs(database.db, catalog)
  expect((await version()).rows).toEqual(before)

  const lead = catalog.find((job) => job.name === 'create-lead')!
  await registerJobs(database.db, [{ ...lead, scope: 'none' }])
  const rows = await database.db.select().from(jobs).orderBy(jobs.job)
  expect(rows.map((row) => [row.job, row.isPublic])).toEqual([
    ['create-lead', false],
    ['render-page', true],
    ['sync-products', true],
    ['sync-stock', true],
    ['tidy', false],
  ])
})

test('forgets the jobs that left the catalog once none of their work is unfinished', async () => {
  await enqueueItem(database.db, 'render-page', { pageId }, { rung: false })
  await forgetJobs(
    database.db,
    catalog.filter((job) => job.name === 'create-lead'),
  )
  const rows = await database.db.select().from(jobs).orderBy(jobs.job)
  expect(rows.map((row) => row.job)).toEqual(['create-lead', 'render-page'])
})
