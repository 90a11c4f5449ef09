import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createDatabase } from '../../src/db/client.ts'
import { disableDomain, enableDomain, pauseDomain } from '../../src/db/domains.ts'
import { createSubmissionDiscovery } from '../../src/db/queries/discover-submissions.ts'
import { enqueueItem, registerJobs } from '../../src/db/queries/enqueue.ts'
import { domains, work } from '../../src/db/schema/index.ts'
import { createLead } from '../../src/queues/create-lead.ts'
import { sendNotification } from '../../src/queues/send-notification.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining } from '../fixtures/plans.ts'
import { createSite, connectAsMainApp } from './main-app.ts'

let database: TestDatabase
let siteId: number
beforeAll(async () => {
  database = await createTestDatabase()
  await registerJobs(database.db, [createLead, sendNotification])
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.delete(work)
  await database.db.delete(domains)
  for (const domain of ['leads', 'notifications'] as const) await enableDomain(database.db, domain)
  await database.db.execute(sql`DELETE FROM website_sites`)
  await database.db.execute(sql`DELETE FROM website_worker.seen_submissions`)
  siteId = await createSite(database.db)
})

async function form(values: { emails?: string[]; site?: number | null } = {}): Promise<number> {
  const { rows } = await database.db.execute(
    sql`INSERT INTO website_forms (site_id, name, slug, fields, notification_emails)
        VALUES (${values.site === undefined ? siteId : values.site}, 'Contact', gen_random_uuid(), '[]',
          ${sql.param(values.emails ?? [])}::text[]) RETURNING id`,
  )
  return Number(rows[0]!.id)
}
async function submit(formId: number, n = 1, status = 'new'): Promise<string[]> {
  const { rows } = await database.db.execute(
    sql`INSERT INTO website_form_submissions (form_id, data, status)
        SELECT ${formId}, '{}', ${status} FROM generate_series(1, ${n}::int) RETURNING id`,
  )
  return rows.map((row) => String(row.id))
}
const keys = async (job: string) => {
  const { rows } = await database.db.execute(
    sql`SELECT key FROM website_worker.work WHERE job = ${job} ORDER BY key::int`,
  )
  return rows.map((row) => row.key as string)
}
const discover = createSubmissionDiscovery({ pageSize: 100, budgetMs: 5_000 })

test('owes each new submission once, a mail where its form has addresses', async () => {
  const plain = await submit(await form(), 2)
  const mailed = await submit(await form({ emails: ['ann@example.com'] }))
  await submit(await form(), 1, 'processed')
  expect(await discover(database.db)).toBe(4)
  expect(await keys('create-lead')).toEqual([...plain, ...mailed])
  expect(await keys('send-notification')).toEqual(mailed)
  expect(await discover(database.db)).toBe(0)
  await database.db.delete(work)
  expect(await discover(database.db)).toBe(0)
})

test('finds thousands at once, also behind others that stay new', async () => {
  const ids = await submit(await form(), 2_345)
  expect(await discover(database.db)).toBe(2_345)
  const more = await submit(await form(), 250)
  expect(await discover(database.db)).toBe(250)
  expect(await keys('create-lead')).toEqual([...ids, ...more])
})

test('finds one whose transaction commits long after later ones', async () => {
  const formId = await form()
  const mainApp = await connectAsMainApp(database)
  const client = await mainApp.connect()
  try {
    await client.query('BEGIN')
    const { rows } = await client.query<{ id: number }>(
      `INSERT INTO website_form_submissions (form_id, data) VALUES (${formId}, '{}') RETURNING id`,
    )
    await submit(formId, 1_000)
    await discover(database.db)
    await client.query('COMMIT')
    let owed = 0
    for (let call = 0; call < 15 && owed === 0; call++) owed = await discover(database.db)
    expect(owed).toBe(1)
    expect(await keys('create-lead')).toContain(String(rows[0]!.id))
  } finally {
    client.release()
    await mainApp.end()
  }
})

test('leaves alone what was there when a domain was enabled, for each domain and site', async () => {
  await disableDomain(database.db, 'leads')
  await disableDomain(database.db, 'notifications')
  const formId = await form({ emails: ['ann@example.com'] })
  await submit(formId)
  expect(await discover(database.db)).toBe(0)
  await enableDomain(database.db, 'notifications', siteId)
  const second = await submit(formId)
  await discover(database.db)
  expect([await keys('create-lead'), await keys('send-notification')]).toEqual([[], second])
  await enableDomain(database.db, 'leads')
  const third = await submit(formId)
  await discover(database.db)
  expect([await keys('create-lead'), await keys('send-notification')]).toEqual([third, [...second, ...third]])
})

test('holds what comes while its site is paused', async () => {
  await pauseDomain(database.db, siteId, 'leads')
  await submit(await form())
  await discover(database.db)
  const { rows } = await database.db.execute(sql`SELECT state, reason, trigger FROM website_worker.work`)
  expect(rows).toEqual([{ state: 'held', reason: 'paused', trigger: 'discovery' }])
})

test('an item that someone is just making keeps only its own submission waiting', async () => {
  const formId = await form()
  const [first, ...others] = await submit(formId, 20)
  const impatient = createDatabase({ url: database.url, max: 2, lockTimeoutMs: 50 })
  const mainApp = createDatabase({ url: database.url, max: 1 })
  try {
    await mainApp.db.transaction(async (tx) => {
      await enqueueItem(tx, 'create-lead', { submissionId: Number(first) }, { rung: false })
      expect(await discover(impatient.db)).toBe(19)
      expect(await keys('create-lead')).toEqual(others)
    })
    await discover(impatient.db)
    expect(await keys('create-lead')).toEqual([first, ...others])
  } finally {
    await impatient.close()
    await mainApp.close()
  }
})

test('reads new submissions through their index, whatever else there is', async () => {
  const formId = await form()
  await database.db.execute(
    sql`INSERT INTO website_form_submissions (form_id, data, status)
        SELECT ${formId}, '{}', CASE WHEN g % 50 = 0 THEN 'new' ELSE 'converted' END FROM generate_series(1, 20000) g`,
  )
  await database.db.execute(sql`ANALYZE website_form_submissions`)
  const { db, plans } = explaining(database.db)
  await createSubmissionDiscovery({ pageSize: 100, budgetMs: 0 })(db)
  for (const plan of plans) {
    expect(plan).toContain('idx_website_form_submissions_new')
    expect(plan).not.toMatch(/Seq Scan on website_form_submissions/)
  }
})
