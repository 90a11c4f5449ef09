import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { pauseDomain } from '../../src/db/domains.ts'
import { registerJobs } from '../../src/db/queries/enqueue.ts'
import { clearFault, integrationsSeen, noteFault } from '../../src/db/queries/integration-faults.ts'
import { domains, websiteForms, websiteIntegrations, work } from '../../src/db/schema/index.ts'
import { createLead } from '../../src/queues/create-lead.ts'
import { sendNotification } from '../../src/queues/send-notification.ts'
import { releaseForms } from '../../src/work/transitions.ts'
import { createSite } from '../db/main-app.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining } from '../fixtures/plans.ts'

let database: TestDatabase
let siteId: number
let otherSite: number
beforeAll(async () => {
  database = await createTestDatabase()
  await registerJobs(database.db, [createLead, sendNotification])
})
afterAll(() => database.drop())
beforeEach(async () => {
  for (const table of [work, domains, websiteForms, websiteIntegrations]) await database.db.delete(table)
  await database.db.execute(sql`DELETE FROM website_worker.integration_faults`)
  siteId = await createSite(database.db)
  otherSite = await createSite(database.db)
})

const jobs = ['create-lead', 'send-notification']
const release = (probeMs = 60_000) => releaseForms(database.db, jobs, { probeMs })

let count = 0
async function hold(reason: string, n = 1, of: { job?: string; site?: number } = {}) {
  const { job = 'create-lead', site = siteId } = of
  await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, site_id, payload, state, reason)
        SELECT ${job}, ${`k${++count}-`} || g, ${site}, '{}', 'held', ${reason} FROM generate_series(1, ${n}::int) g`,
  )
}
async function held(): Promise<number> {
  const { rows } = await database.db.execute(
    sql`SELECT count(*)::int AS n FROM website_worker.work WHERE state = 'held'`,
  )
  return Number(rows[0]!.n)
}
async function form(values: Partial<typeof websiteForms.$inferInsert> = {}): Promise<number> {
  const slug = crypto.randomUUID()
  const [row] = await database.db
    .insert(websiteForms)
    .values({ siteId, name: 'Contact', slug, fields: [], ...values })
    .returning()
  return row!.id
}
async function fault(type: 'crm' | 'email', site = siteId) {
  const { rows } = await database.db.execute(
    sql`SELECT ${integrationsSeen(sql`${site}::int`, sql`${type}::text`)} AS seen`,
  )
  await noteFault(database.db, {
    siteId: site,
    type,
    integrationId: null,
    error: 'none',
    seen: rows[0]!.seen as string,
  })
}
const integrate = (config = {}) =>
  database.db.insert(websiteIntegrations).values({ siteId, type: 'crm', provider: 'http', name: 'Sales', config })

test('lets go what belongs to forms that are active again, or gone, and nothing else', async () => {
  const [active, inactive, deleted] = [
    await form(),
    await form({ isActive: false }),
    await form({ deletedAt: new Date() }),
  ]
  await hold(`form ${active} inactive`, 3)
  await hold('form 999999 deleted')
  await hold('form 2147483647 deleted')
  await hold(`form ${inactive} inactive`)
  await hold(`form ${deleted} deleted`)
  await hold('version mismatch: form 1 inactive')
  await hold(`form ${active} inactive`, 1, { job: 'publish-page' })
  expect(await release()).toBe(5)
  expect(await held()).toBe(4)
  expect(await release()).toBe(0)
})

test('goes through as many as there are, a batch a call', async () => {
  await hold(`form ${await form()} inactive`, 2_500)
  expect([await release(), await release(), await release(), await release()]).toEqual([1_000, 1_000, 500, 0])
})

test('while a fault is noted one item tries, once the integrations were changed or the time is over', async () => {
  await fault('crm')
  await hold('no CRM integration', 5)
  await hold('CRM integration unusable', 5, { site: otherSite })
  await fault('crm', otherSite)
  expect(await release()).toBe(0)
  await integrate()
  expect(await release()).toBe(1)
  await fault('crm')
  expect(await release()).toBe(0)
  // Whatever the row's timestamps say.
  await database.db.execute(sql`UPDATE website_integrations SET config = '{"url":"x"}', updated_at = '2020-01-01'`)
  expect(await release()).toBe(1)
  await fault('crm')
  expect(await release(0)).toBe(2)
  await clearFault(database.db, siteId, 'crm')
  expect(await release()).toBe(2)
  expect(await held()).toBe(4)
})

test('a site that is paused keeps what it has', async () => {
  await hold(`form ${await form()} inactive`)
  await pauseDomain(database.db, siteId, 'leads')
  expect(await release()).toBe(0)
})

test('walks the index, however much is held', async () => {
  await hold('CRM integration unusable', 20_000)
  await fault('crm')
  await database.db.execute(sql`ANALYZE website_worker.work`)
  const { db, plans } = explaining(database.db)
  await releaseForms(db, jobs)
  expect(plans[0]).toContain('work_held')
  expect(plans[0]).not.toContain('Seq Scan on work')
})
