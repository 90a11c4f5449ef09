import { sql, TransactionRollbackError } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { diagnose, type Finding } from '../../src/db/doctor.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
  await setTimezone('UTC')
})
afterAll(() => database.drop())

const databaseName = () => new URL(database.url).pathname.slice(1)
const setTimezone = (zone: string) => database.pool.query(`ALTER DATABASE ${databaseName()} SET timezone = '${zone}'`)

/** What it finds while a change stands; the change is undone. */
async function diagnoseAfter(change: string): Promise<Finding[]> {
  let findings: Finding[] = []
  const undone = database.db.transaction(async (tx) => {
    await tx.execute(sql.raw(change))
    findings = await diagnose(tx)
    tx.rollback()
  })
  await expect(undone).rejects.toThrow(TransactionRollbackError)
  return findings
}

test('finds nothing on a migrated database', async () => {
  expect(await diagnose(database.db)).toEqual([])
})

test('says only that migrations are pending where nothing is installed', async () => {
  const empty = await createTestDatabase({ template: 'empty' })
  const findings = await diagnose(empty.db)
  await empty.drop()
  expect(findings[0]).toMatchObject({ level: 'error', what: '0000_shared_tables is not applied' })
  expect(findings.every((finding) => finding.fix.startsWith('website-worker migrate'))).toBe(true)
})

const drifts: [name: string, change: string, finding: { level: 'error' | 'warning'; what: string; fix?: string }][] = [
  [
    'a dropped trigger',
    'DROP TRIGGER update_website_pages_updated_at ON website_pages',
    { level: 'error', what: 'update_website_pages_updated_at on website_pages is missing' },
  ],
  [
    'a disabled trigger',
    'ALTER TABLE website_pages DISABLE TRIGGER update_website_pages_updated_at',
    { level: 'error', what: 'update_website_pages_updated_at on website_pages is disabled' },
  ],
  [
    'a trigger function that lost its timezone',
    'ALTER FUNCTION update_updated_at_column() RESET timezone',
    { level: 'warning', what: 'not in UTC', fix: 'website-worker migrate' },
  ],
  [
    'a dropped index',
    'DROP INDEX idx_website_pages_title_search',
    { level: 'warning', what: 'idx_website_pages_title_search on website_pages is missing' },
  ],
  [
    "the ledger's dropped index",
    'DROP INDEX website_webhook_deliveries_webhook_event',
    { level: 'error', what: 'website_webhook_deliveries_webhook_event is not applied' },
  ],
  [
    'an index of our name that is another',
    'DROP INDEX idx_website_orders_status; CREATE INDEX idx_website_orders_status ON website_orders (notes)',
    { level: 'warning', what: 'is not ours: CREATE INDEX idx_website_orders_status' },
  ],
  [
    'a dropped column',
    'ALTER TABLE website_pages DROP COLUMN seo_robots',
    {
      level: 'error',
      what: 'website_pages.seo_robots is missing',
      fix: 'ADD COLUMN seo_robots character varying(100)',
    },
  ],
  [
    'a changed type',
    'ALTER TABLE website_orders ALTER COLUMN erp_order_id TYPE bigint',
    { level: 'error', what: 'website_orders.erp_order_id is bigint, not integer' },
  ],
  [
    'a column that began to refuse NULL',
    'ALTER TABLE website_sync_logs ALTER COLUMN entity_id SET NOT NULL',
    { level: 'error', what: 'website_sync_logs.entity_id refuses NULL' },
  ],
  [
    'a lost default',
    'ALTER TABLE website_webhooks ALTER COLUMN is_active DROP DEFAULT',
    { level: 'warning', what: 'default of website_webhooks.is_active is none, not true' },
  ],
  [
    'a changed check',
    `ALTER TABLE website_pages DROP CONSTRAINT website_pages_status_check,
       ADD CHECK (status IN ('draft', 'published', 'scheduled', 'archived', 'review'))`,
    { level: 'warning', what: 'website_pages lacks CHECK (status IN' },
  ],
  [
    'a lost unique constraint',
    'ALTER TABLE website_products DROP CONSTRAINT website_products_site_id_sku_key',
    { level: 'error', what: 'website_products lacks UNIQUE (site_id, sku)' },
  ],
  [
    'a lost foreign key',
    'ALTER TABLE website_pages DROP CONSTRAINT website_pages_site_id_fkey',
    { level: 'warning', what: 'FOREIGN KEY (site_id) REFERENCES website_sites(id) ON DELETE CASCADE' },
  ],
  ['a dropped table', 'DROP TABLE website_audit_logs', { level: 'error', what: 'table website_audit_logs is missing' }],
  [
    'a dropped table of ours',
    'DROP TABLE website_worker.installation',
    { level: 'error', what: 'table website_worker.installation is missing' },
  ],
  [
    'a dropped function of ours',
    'DROP FUNCTION website_worker.hold_reason',
    { level: 'error', what: 'website_worker.hold_reason is missing' },
  ],
  [
    'a dropped view',
    'DROP VIEW website_webhook_delivery_log',
    { level: 'error', what: 'website_webhook_delivery_log is missing', fix: 'drizzle/' },
  ],
  [
    'rows written in a timezone ahead of UTC',
    `SET timezone = 'Asia/Kolkata'; INSERT INTO website_pageviews (page_url) VALUES ('/'); SET timezone = 'UTC'`,
    { level: 'error', what: 'website_pageviews has rows created 3' },
  ],
]

test.each(drifts)('names %s', async (_name, change, finding) => {
  const findings = diagnoseAfter(change)
  expect(await findings).toEqual([
    {
      level: finding.level,
      what: expect.stringContaining(finding.what),
      fix: expect.stringContaining(finding.fix ?? ''),
    },
  ])
})

test('accepts a unique index in place of a unique constraint, and names of constraints that differ', async () => {
  const findings = diagnoseAfter(`
    ALTER TABLE website_products DROP CONSTRAINT website_products_site_id_sku_key;
    CREATE UNIQUE INDEX products_sku ON website_products (site_id, sku);
    ALTER TABLE website_pages RENAME CONSTRAINT website_pages_site_id_fkey TO pages_site_fk`)
  expect(await findings).toEqual([])
})

test('names an invalid index', async () => {
  await database.pool.query(`INSERT INTO website_pageviews (page_url) VALUES ('/'), ('/')`)
  const broken = 'CREATE UNIQUE INDEX CONCURRENTLY their_index ON website_pageviews (page_url)'
  await expect(database.pool.query(broken)).rejects.toThrow('could not create unique index')
  const findings = await diagnose(database.db)
  await database.pool.query('DROP INDEX their_index')
  expect(findings).toEqual([
    {
      level: 'error',
      what: expect.stringContaining('their_index on website_pageviews is invalid'),
      fix: 'REINDEX INDEX CONCURRENTLY their_index',
    },
  ])
})

test('names the database whose sessions are not in UTC', async () => {
  await setTimezone('Asia/Kolkata')
  const findings = await diagnose(database.db)
  await setTimezone('UTC')
  expect(findings).toEqual([
    {
      level: 'warning',
      what: expect.stringContaining(`database ${databaseName()} is set to Asia/Kolkata`),
      fix: `ALTER DATABASE ${databaseName()} SET timezone = 'UTC'`,
    },
  ])
})
