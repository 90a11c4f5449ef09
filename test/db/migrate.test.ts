import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { migrate as applyJournal } from 'drizzle-orm/node-postgres/migrator'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ledgerIndexName } from '../../src/db/additions.ts'
import { diagnose } from '../../src/db/doctor.ts'
import { createPageDiscovery } from '../../src/db/queries/discover-pages.ts'
import { isMigrated, migrate, pendingMigrations, readJournal } from '../../src/db/migrate.ts'
import { domains } from '../../src/queues/define-job.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { makeScratch, removeScratch } from '../fixtures/scratch.ts'
import { readCatalogue } from './catalogue.ts'
import { applySpec } from './spec-database.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase({ template: 'empty' })
})
afterEach(() => database.drop())

const tags = readJournal().map((entry) => entry.tag)
const dump = async () => ({
  shared: await readCatalogue(database.pool),
  worker: await readCatalogue(database.pool, { schema: 'website_worker' }),
  rows: (await database.pool.query('SELECT * FROM website_worker.installation, website_worker.domains')).rows,
})

test('brings an empty database to this release with every domain on', async () => {
  expect(await isMigrated(database.db)).toBe(false)
  expect(await pendingMigrations(database.db)).toEqual([...tags, ledgerIndexName])
  const result = await migrate(database.url)
  expect(result).toMatchObject({ applied: tags, deferred: [] })
  expect(await pendingMigrations(database.db)).toEqual([])
  expect((await diagnose(database.db)).filter((finding) => finding.level === 'error')).toEqual([])
  const { rows } = await database.pool.query('SELECT domain FROM website_worker.domains WHERE enabled AND site_id = 0')
  expect(rows.map((row) => row.domain).toSorted()).toEqual(domains.toSorted())
})

test('changes nothing when it runs again', async () => {
  await migrate(database.url)
  const before = await dump()
  expect(await migrate(database.url)).toEqual({ applied: [], added: [], deferred: [] })
  expect(await migrate(database.url, { online: true })).toEqual({ applied: [], added: [], deferred: [] })
  expect(await dump()).toEqual(before)
})

/** Brings the database to an earlier release. */
async function migrateThrough(tag: string) {
  const folder = makeScratch()
  cpSync('drizzle', folder, { recursive: true })
  const file = join(folder, 'meta/_journal.json')
  const journal = JSON.parse(readFileSync(file, 'utf8')) as { entries: { tag: string }[] }
  journal.entries = journal.entries.filter((entry) => entry.tag <= tag)
  writeFileSync(file, JSON.stringify(journal))
  await applyJournal(database.db, {
    migrationsFolder: folder,
    migrationsSchema: 'website_worker',
    migrationsTable: 'migrations',
  })
  removeScratch(folder)
}

test('owes no page that was overdue before there was a job for it, where publishing was on already', async () => {
  await migrateThrough('0007_delivery_log')
  await database.pool.query(`
    INSERT INTO website_sites (name, domain) VALUES ('Shop', 'shop.example');
    INSERT INTO website_pages (site_id, slug, title, status, publish_at) VALUES
      (1, 'overdue', 'P', 'scheduled', (now() AT TIME ZONE 'UTC') - interval '1 day'),
      (1, 'ahead', 'P', 'scheduled', (now() AT TIME ZONE 'UTC') + interval '50 seconds')`)
  await migrate(database.url)
  expect(await createPageDiscovery()(database.db)).toBe(1)
  const { rows } = await database.pool.query(
    'SELECT p.slug FROM website_worker.work w JOIN website_pages p ON p.id::text = w.key',
  )
  expect(rows).toEqual([{ slug: 'ahead' }])
})

test('lets concurrent migrations take turns', async () => {
  const results = await Promise.all([1, 2, 3].map(() => migrate(database.url, { online: true })))
  expect(results.flatMap((result) => result.applied)).toEqual(tags)
  expect(await isMigrated(database.db)).toBe(true)
})

test("ignores the main app's Drizzle journal, even one dated in the future", async () => {
  await database.pool.query('CREATE SCHEMA drizzle')
  await database.pool.query(
    'CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)',
  )
  await database.pool.query(`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('theirs', $1)`, [
    Date.parse('2099-01-01'),
  ])
  await migrate(database.url)
  expect(await isMigrated(database.db)).toBe(true)
  const { rows } = await database.pool.query('SELECT hash FROM drizzle.__drizzle_migrations')
  expect(rows).toEqual([{ hash: 'theirs' }])
})

test('makes its tables in public for a role whose own schema comes first in its search_path', async () => {
  const name = new URL(database.url).pathname.slice(1)
  await database.pool.query(`ALTER DATABASE ${name} SET search_path = website_worker, public`)
  await migrate(database.url)
  const { rows } = await database.pool.query(
    `SELECT count(*)::int AS n FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'website_%'`,
  )
  expect(rows).toEqual([{ n: 27 + 7 }])
})

const fillPageviews = () =>
  database.pool.query(`INSERT INTO website_pageviews (page_url) SELECT '/' FROM generate_series(1, 5000)`)

test('leaves the indexes of a large table to --online, which builds them beside writers', async () => {
  await applySpec(database.pool, (statement) => !statement.includes('idx_website_pageviews_utm'))
  await fillPageviews()
  const large = ['idx_website_pageviews_utm', 'idx_website_pageviews_site_id_created_at']
  expect(await migrate(database.url, { largeTableRows: 1000 })).toMatchObject({ applied: tags, deferred: large })
  expect(await isMigrated(database.db)).toBe(true)

  const writer = await database.pool.connect()
  const lines: string[] = []
  try {
    await writer.query('BEGIN')
    await writer.query(`INSERT INTO website_pageviews (page_url) VALUES ('/open')`)
    const online = migrate(database.url, {
      largeTableRows: 1000,
      online: true,
      lockTimeoutMs: 50,
      report(line) {
        lines.push(line)
        if (line.includes('try 2')) void writer.query('COMMIT')
      },
    })
    expect(await online).toEqual({ applied: [], added: large, deferred: [] })
  } finally {
    writer.release(true)
  }
  expect(lines).toContain('dropping idx_website_pageviews_utm: an earlier build left it invalid')
  expect(await diagnose(database.db)).not.toContainEqual(expect.objectContaining({ level: 'error' }))
})

test('remakes an index that an interrupted build left invalid', async () => {
  await applySpec(database.pool)
  await fillPageviews()
  const name = 'idx_website_pageviews_site_id_created_at'
  const broken = `CREATE UNIQUE INDEX CONCURRENTLY ${name} ON website_pageviews (page_url)`
  await expect(database.pool.query(broken)).rejects.toThrow('could not create unique index')
  expect((await migrate(database.url, { online: true, largeTableRows: 1000 })).added).toContain(name)
  expect((await readCatalogue(database.pool, { kinds: ['index'] })).join('\n')).not.toContain('INVALID')
})

test('gives up on a locked table without having kept writers waiting, and goes on where it stopped', async () => {
  await applySpec(database.pool)
  const holder = await database.pool.connect()
  try {
    await holder.query('BEGIN')
    await holder.query('LOCK TABLE website_orders IN ROW EXCLUSIVE MODE')
    const attempt = migrate(database.url, { lockTimeoutMs: 50, attempts: 2 })
    await expect(attempt).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('locked') })
  } finally {
    holder.release(true)
  }
  await migrate(database.url)
  expect(await migrate(database.url)).toEqual({ applied: [], added: [], deferred: [] })
})
