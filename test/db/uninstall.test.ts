import { afterEach, beforeEach, expect, test } from 'vitest'
import { isMigrated, migrate } from '../../src/db/migrate.ts'
import { uninstall } from '../../src/db/uninstall.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { readCatalogue } from './catalogue.ts'
import { applySpec } from './spec-database.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase({ template: 'empty' })
})
afterEach(() => database.drop())

const schemas = async () =>
  (await database.pool.query(`SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'`)).rows.map((row) => row.nspname)

test("gives the main app's database back exactly as it was, with its rows, and can be installed again", async () => {
  await applySpec(database.pool)
  await database.pool.query(`COMMENT ON FUNCTION update_updated_at_column() IS 'It''s ours, \\o/'`)
  await database.pool.query('CREATE INDEX idx_website_sites_theme_id ON website_sites (theme_id)')
  await database.pool.query(`INSERT INTO website_sites (name, domain) VALUES ('Shop', 'shop.example')`)
  const before = await readCatalogue(database.pool)
  await migrate(database.url)
  await database.pool.query('CREATE SCHEMA bullmq; CREATE TABLE bullmq.job (id int)')
  expect(await readCatalogue(database.pool)).not.toEqual(before)

  await uninstall(database.db)

  expect(await readCatalogue(database.pool)).toEqual(before)
  expect((await schemas()).toSorted()).toEqual(['information_schema', 'public'])
  expect((await database.pool.query('SELECT domain FROM website_sites')).rows).toEqual([{ domain: 'shop.example' }])
  expect(await uninstall(database.db)).toHaveLength(2)

  await migrate(database.url)
  expect(await isMigrated(database.db)).toBe(true)
})

test("leaves the spec's tables and indexes, and nothing else, where it had made all of them", async () => {
  const spec = await createTestDatabase({ template: 'empty' })
  await applySpec(spec.pool, (statement) => !/FUNCTION|TRIGGER/.test(statement))
  await migrate(database.url)
  await uninstall(database.db)
  const left = await readCatalogue(database.pool)
  const wanted = await readCatalogue(spec.pool)
  await spec.drop()
  expect(left).toEqual(wanted)
})

test('removes what carries our comment in public, but never a shared table', async () => {
  await migrate(database.url)
  await database.pool.query('CREATE TABLE website_analytics_x (id int); CREATE VIEW website_x AS SELECT 1 AS one')
  await database.pool.query(`COMMENT ON TABLE website_analytics_x IS 'Made by website-worker'`)
  await database.pool.query(`COMMENT ON VIEW website_x IS 'Made by website-worker'`)
  await database.pool.query(`COMMENT ON TABLE website_orders IS 'Made by website-worker'`)
  await uninstall(database.db)
  const { rows } = await database.pool.query(
    `SELECT to_regclass('website_analytics_x') AS a, to_regclass('website_x') AS b, to_regclass('website_orders')::text AS c`,
  )
  expect(rows).toEqual([{ a: null, b: null, c: 'website_orders' }])
})

test('keeps the updated_at function where the main app has come to rely on it', async () => {
  await migrate(database.url)
  await database.pool.query('CREATE TABLE invoices (updated_at timestamp)')
  await database.pool.query(`CREATE TRIGGER invoices BEFORE UPDATE ON invoices
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column()`)
  await uninstall(database.db)
  expect((await readCatalogue(database.pool, { kinds: ['trigger'] })).join()).toContain('invoices')
})
