import { afterEach, beforeEach, expect, test } from 'vitest'
import { disableDomain, enableDomain, listDomains, pauseDomain, resumeDomain } from '../../src/db/domains.ts'
import type { Domain } from '../../src/queues/define-job.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
  await database.pool.query(`INSERT INTO website_sites (name, domain) VALUES ('A', 'a.example'), ('B', 'b.example')`)
})
afterEach(() => database.drop())

const reason = async (domain: Domain, siteId: number | null) =>
  (await database.pool.query('SELECT website_worker.hold_reason($1, $2) AS reason', [domain, siteId])).rows[0].reason

const deliver = (count: number) =>
  database.pool.query('INSERT INTO website_webhook_deliveries (event_id) SELECT NULL FROM generate_series(1, $1)', [
    count,
  ])

test('sets the watermark only when a domain goes from off to on', async () => {
  await deliver(3)
  expect(await enableDomain(database.db, 'webhooks')).toMatchObject({ enabled: true, watermark: 0 })
  await disableDomain(database.db, 'webhooks')
  expect(await reason('webhooks', 1)).toBe('domain off')
  expect(await enableDomain(database.db, 'webhooks')).toMatchObject({ enabled: true, watermark: 3 })
  await deliver(1)
  expect(await enableDomain(database.db, 'webhooks')).toMatchObject({ enabled: true, watermark: 3 })
  expect(await reason('webhooks', 1)).toBeNull()
})

test.each([
  ['leads', `INSERT INTO website_form_submissions (data) VALUES ('{}')`],
  ['notifications', `INSERT INTO website_form_submissions (data) VALUES ('{}')`],
  [
    'erp',
    `INSERT INTO website_orders (order_number, customer_email, total, shipping_address, billing_address)
     VALUES ('1', 'a@example', 1, '{}', '{}')`,
  ],
] as const)('counts from the rows that stand when %s is enabled', async (domain, insert) => {
  await disableDomain(database.db, domain)
  await database.pool.query(insert)
  expect(await enableDomain(database.db, domain)).toMatchObject({ watermark: 1 })
})

test('lets a site be on while all others are off', async () => {
  await disableDomain(database.db, 'webhooks')
  await deliver(2)
  await enableDomain(database.db, 'webhooks', 1)
  expect([await reason('webhooks', 1), await reason('webhooks', 2), await reason('webhooks', null)]).toEqual([
    null,
    'domain off',
    'domain off',
  ])
  expect((await listDomains(database.db)).filter((row) => row.domain === 'webhooks')).toEqual([
    { domain: 'webhooks', siteId: 0, enabled: false, paused: false, watermark: 0 },
    { domain: 'webhooks', siteId: 1, enabled: true, paused: false, watermark: 2 },
  ])
})

test('pauses and resumes one site, and leaves no row that would shield it from a later disable', async () => {
  await pauseDomain(database.db, 1, 'webhooks')
  expect([await reason('webhooks', 1), await reason('webhooks', 2)]).toEqual(['paused', null])
  await resumeDomain(database.db, 1, 'webhooks')
  expect(await reason('webhooks', 1)).toBeNull()
  await disableDomain(database.db, 'webhooks')
  expect(await reason('webhooks', 1)).toBe('domain off')
})

test('keeps a switched-off site off through pause and resume', async () => {
  await disableDomain(database.db, 'erp', 1)
  await pauseDomain(database.db, 1, 'erp')
  await resumeDomain(database.db, 1, 'erp')
  expect([await reason('erp', 1), await reason('erp', 2)]).toEqual(['domain off', null])
})

test('refuses sites and domains that do not exist', async () => {
  await expect(enableDomain(database.db, 'webhooks', 99)).rejects.toMatchObject({ code: 'not_found', field: 'siteId' })
  await expect(enableDomain(database.db, 'mail' as Domain)).rejects.toMatchObject({ code: 'invalid', field: 'domain' })
})

test('keeps one row when many switch at once', async () => {
  await Promise.all([1, 2, 3, 4].map(() => pauseDomain(database.db, 1, 'leads')))
  expect((await listDomains(database.db)).filter((row) => row.domain === 'leads')).toHaveLength(2)
})
