import { afterEach, beforeEach, expect, test } from 'vitest'
import { diagnose } from '../../src/db/doctor.ts'
import { isMigrated, migrate } from '../../src/db/migrate.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { readCatalogue } from './catalogue.ts'
import { createRole } from './roles.ts'
import { applySpec, specTables } from './spec-database.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase({ template: 'empty' })
})
afterEach(() => database.drop())

const insertSite = `INSERT INTO website_sites (name, domain) VALUES ('Shop', 'shop.example')`
const insertWebhook = `
  INSERT INTO website_webhooks (site_id, name, event, target_url, secret)
  VALUES (1, 'Orders', 'order.created', 'https://receiver.example', 'secret')`
const insertDelivery = `INSERT INTO website_webhook_deliveries (webhook_id, event_id) VALUES (1, 'evt_1')`

test('adopts tables of another owner with rows in them, and leaves tables, rows and owner as they were', async () => {
  const role = await createRole(database.pool)
  await database.pool.query(`GRANT CREATE ON SCHEMA public TO ${role.name}`)
  const app = await database.pool.connect()
  await app.query(`SET ROLE ${role.name}`)
  await applySpec({ query: app.query.bind(app) } as typeof database.pool)
  for (const statement of [insertSite, insertWebhook, insertDelivery, insertDelivery]) await app.query(statement)
  app.release(true)
  const theirs = { kinds: ['column', 'constraint', 'owner'] as const, tables: [...specTables, 'users', 'partners'] }
  const before = await readCatalogue(database.pool, { ...theirs, kinds: [...theirs.kinds] })

  await migrate(database.url)

  const after = await readCatalogue(database.pool, { ...theirs, kinds: [...theirs.kinds] })
  expect(after).toEqual(before)
  const { rows } = await database.pool.query(`
    SELECT delivery_watermark::int, adopted, (SELECT count(*)::int FROM website_webhook_deliveries) AS deliveries,
      (SELECT bool_or(enabled) FROM website_worker.domains) AS "anyDomainOn",
      website_worker.hold_reason('webhooks', 1) AS reason
    FROM website_worker.installation`)
  expect(rows).toEqual([
    { delivery_watermark: 2, adopted: true, deliveries: 2, anyDomainOn: false, reason: 'domain off' },
  ])
  await database.pool.query(insertDelivery)
  await expect(database.pool.query(insertDelivery)).rejects.toThrow('website_webhook_deliveries_webhook_event')
})

test('adds what is missing where the main app made only some of the tables and indexes', async () => {
  const made = /^CREATE (TABLE|INDEX).*(website_(themes|sites|products|webhooks|webhook_deliveries)\b|partners)/
  await applySpec(database.pool, (statement) => made.test(statement.split(/[(\n]/)[0] ?? ''))
  await database.pool.query('DROP INDEX idx_website_products_sku')
  await database.pool.query(insertSite)
  await migrate(database.url)
  expect((await diagnose(database.db)).filter((finding) => finding.level === 'error')).toEqual([])
  const spec = await createTestDatabase({ template: 'empty' })
  await applySpec(spec.pool)
  const options = { kinds: ['column', 'constraint', 'index'] as const, tables: specTables }
  const wanted = await readCatalogue(spec.pool, { ...options, kinds: [...options.kinds] })
  const live = await readCatalogue(database.pool, { ...options, kinds: [...options.kinds] })
  await spec.drop()
  expect(wanted.filter((line) => !live.includes(line))).toEqual([])
  expect((await database.pool.query('SELECT adopted FROM website_worker.installation')).rows).toEqual([
    { adopted: true },
  ])
})

test("keeps the body of the main app's trigger function and puts it in UTC", async () => {
  await applySpec(database.pool)
  await database.pool.query(insertSite)
  await migrate(database.url)
  const { rows } = await database.pool.query(`
    SELECT prosecdef, proconfig FROM pg_proc WHERE proname = 'update_updated_at_column'`)
  expect(rows).toEqual([{ prosecdef: false, proconfig: ['TimeZone=UTC'] }])
})

test('leaves a trigger function that other tables of the main app rely on, and says so', async () => {
  await applySpec(database.pool)
  await database.pool.query('CREATE TABLE invoices (id serial PRIMARY KEY, updated_at timestamp)')
  await database.pool.query(`CREATE TRIGGER update_invoices_updated_at BEFORE UPDATE ON invoices
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column()`)
  await migrate(database.url)
  const { rows } = await database.pool.query(`
    SELECT proconfig FROM pg_proc WHERE proname = 'update_updated_at_column'`)
  expect(rows).toEqual([{ proconfig: null }])
  expect(await diagnose(database.db)).toEqual([
    expect.objectContaining({ level: 'warning', fix: expect.stringContaining('serves invoices too') }),
  ])
})

test('tells a role that may not change the shared tables who should migrate', async () => {
  await applySpec(database.pool)
  const role = await createRole(database.pool)
  const name = new URL(database.url).pathname.slice(1)
  await database.pool.query(`GRANT CREATE ON DATABASE ${name} TO ${role.name}`)
  await database.pool.query(`GRANT CREATE ON SCHEMA public TO ${role.name}`)
  await database.pool.query(`GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${role.name}`)
  await expect(migrate(role.urlOf(database.url))).rejects.toMatchObject({
    code: 'misconfigured',
    message: expect.stringContaining('owner of the shared tables'),
  })
  expect(await isMigrated(database.db)).toBe(false)
})

test('lets the owner of the shared tables migrate without being a superuser', async () => {
  const role = await createRole(database.pool)
  const name = new URL(database.url).pathname.slice(1)
  await database.pool.query(`ALTER DATABASE ${name} OWNER TO ${role.name}`)
  await database.pool.query(`ALTER SCHEMA public OWNER TO ${role.name}`)
  await migrate(role.urlOf(database.url))
  expect(await migrate(role.urlOf(database.url))).toEqual({ applied: [], added: [], deferred: [] })
})

test('says which rows keep the ledger from being one row per webhook and event', async () => {
  await migrate(database.url)
  await database.pool.query('DROP INDEX website_webhook_deliveries_webhook_event')
  await database.pool.query(insertSite)
  for (const statement of [insertWebhook, insertDelivery, insertDelivery]) await database.pool.query(statement)
  await expect(migrate(database.url)).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('several rows for one webhook and event above id 0'),
  })
})
