import { eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { transact } from '../../src/db/client.ts'
import { beginLead, closeLead, findLead, recordLeads } from '../../src/db/queries/leads.ts'
import { crmLeads, websiteForms, websiteFormSubmissions } from '../../src/db/schema/index.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { createSite, workOf } from './main-app.ts'

let database: TestDatabase
let submissionId: number
let formId: number
beforeAll(async () => {
  database = await createTestDatabase()
  const siteId = await createSite(database.db)
  const [form] = await database.db
    .insert(websiteForms)
    .values({ siteId, name: 'Contact', slug: 'contact', fields: [] })
    .returning()
  formId = form!.id
})
afterAll(() => database.drop())
const submit = async (status: 'new' | 'archived' = 'new') => {
  const [row] = await database.db.insert(websiteFormSubmissions).values({ formId, data: {}, status }).returning()
  return row!.id
}
beforeEach(async () => {
  submissionId = await submit()
})

const begin = (attemptsSeen: number, settledMs = 60_000, id = submissionId) =>
  beginLead(database.db, {
    submissionId: id,
    integrationId: 1,
    reference: `web:submission:${id}`,
    attemptsSeen,
    settledMs,
  })
const record = (leadId: string, duplicates: string[] = [], id = submissionId) =>
  transact(database.db, (tx) => recordLeads(tx, [{ submissionId: id, leadId, duplicates, checkAfterMs: 60_000 }]))
const row = async (id = submissionId) => {
  const [found] = await database.db.select().from(websiteFormSubmissions).where(eq(websiteFormSubmissions.id, id))
  return found!
}

test('of runs that begin at once, one goes on', async () => {
  const began = await Promise.all(Array.from({ length: 8 }, () => begin(0)))
  expect(began.filter(Boolean)).toHaveLength(1)
  expect(await findLead(database.db, submissionId)).toMatchObject({ attempts: 1, isOpen: true, leadId: null })
})

test('a call whose outcome is open lets no other begin, and says how long to wait', async () => {
  expect(await begin(0)).toBe(true)
  expect(await begin(1)).toBe(false)
  const { waitMs } = (await findLead(database.db, submissionId))!
  expect(waitMs).toBeGreaterThan(0)
  expect(waitMs).toBeLessThanOrEqual(60_000)
  await closeLead(database.db, submissionId, 1, true)
  expect(await begin(0)).toBe(false)
  expect(await begin(1, 0)).toBe(true)
  expect(await findLead(database.db, submissionId)).toMatchObject({ attempts: 2, isOpen: true, waitMs: 0 })
  await closeLead(database.db, submissionId, 1, false)
  expect(await findLead(database.db, submissionId)).toMatchObject({ isOpen: true })
})

test.each([
  ['1', 1],
  ['2147483647', 2_147_483_647],
  ['2147483648', null],
  ['12345678901', null],
  ['0063X00000abc', null],
  ['007', null],
  ['-5', null],
  ['0', null],
  ["'; DROP TABLE website_forms; --", null],
])('keeps %j as text, and as %j', async (leadId, crmLeadId) => {
  await begin(0)
  await record(leadId)
  expect(await row()).toMatchObject({ status: 'converted', crmLeadId })
  const [lead] = await database.db.select().from(crmLeads).where(eq(crmLeads.submissionId, submissionId))
  expect(lead).toMatchObject({ leadId, searchFrom: null, convertedAt: expect.any(Date) })
  expect(await begin(1)).toBe(false)
})

test('an archived submission stays archived, and has its lead', async () => {
  const id = await submit('archived')
  await begin(0, 0, id)
  await record('7', [], id)
  expect(await row(id)).toMatchObject({ status: 'archived', crmLeadId: 7 })
})

test('only a lead that may yet come twice is looked at again', async () => {
  await begin(0)
  await record('8')
  expect(await workOf(database.db, 'check-lead')).toEqual([])
  const id = await submit()
  await begin(0, 0, id)
  await closeLead(database.db, id, 1, true)
  await begin(1, 0, id)
  await record('9', ['10'], id)
  const [check] = await workOf(database.db, 'check-lead')
  expect(check).toMatchObject({ key: `${id}:1`, state: 'owed', payload: { submissionId: id, round: 1 } })
  const { rows } = await database.db.execute(sql`SELECT changes FROM website_audit_logs WHERE resource_id = ${id}`)
  expect(rows).toEqual([{ changes: { reference: `web:submission:${id}`, leadId: '9', duplicates: ['10'] } }])
})
