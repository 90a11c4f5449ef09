import { afterEach, beforeEach, expect, test } from 'vitest'
import { createDatabase } from '../../../src/db/client.ts'
import { diagnose } from '../../../src/db/doctor.ts'
import { migrate } from '../../../src/db/migrate.ts'
import { enablePartitions, finishPartitions, revertPartitions } from '../../../src/db/partitions/convert.ts'
import { readPartitionStatus } from '../../../src/db/partitions/status.ts'
import { swap } from '../../../src/db/partitions/swap.ts'
import { dropEmptyPartition, keepPartitions } from '../../../src/db/partitions/upkeep.ts'
import { uninstall } from '../../../src/db/uninstall.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { readCatalogue } from '../catalogue.ts'
import { connectAsMainApp } from '../main-app.ts'
import { createRole } from '../roles.ts'
import { contentOf, fillPageviews, maintaining } from './conversion.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
  await query(`ALTER DATABASE ${new URL(database.url).pathname.slice(1)} SET timezone = 'UTC'`)
})
afterEach(() => database.drop())

const table = 'website_pageviews'
const enable = () => maintaining(database, (db) => enablePartitions(db, table, { batch: 300 }))
const revert = () => maintaining(database, (db) => revertPartitions(db, table, { batch: 300 }))
const finish = () => maintaining(database, (db) => finishPartitions(db, table, { batch: 300 }))
const query = async (text: string) => (await database.pool.query(text)).rows
const catalogue = () => readCatalogue(database.pool, { tables: [table, 'website_sites', 'partners'] })

test('partitions hold the same rows, and going back leaves the table as it was, with what was written since', async () => {
  const siteId = await fillPageviews(database.db, 1_000)
  const owner = await createRole(database.pool)
  await query(`ALTER TABLE ${table} OWNER TO ${owner.name}`)
  await query(`CREATE POLICY everyone ON ${table} AS PERMISSIVE FOR SELECT TO PUBLIC USING (site_id > 0)`)
  await query(`ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY; COMMENT ON TABLE ${table} IS 'It''s theirs'`)
  await query(`GRANT SELECT, INSERT ON ${table} TO PUBLIC; GRANT UPDATE (page_title) ON ${table} TO pg_monitor`)
  await query(`CREATE FUNCTION their_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`)
  await query(`CREATE TRIGGER theirs BEFORE INSERT ON ${table} FOR EACH ROW EXECUTE FUNCTION their_trigger()`)
  await query(`ALTER TABLE ${table} DISABLE TRIGGER theirs`)
  const [rows, before] = [await contentOf(database.db, table), await catalogue()]
  expect(await enable()).toBe('converted')
  expect(await enable()).toBe('done')
  expect(await contentOf(database.db, table)).toEqual(rows)

  const changed = (await catalogue())
    .filter((line) => !before.includes(line))
    .map((line) => line.replace('ON ONLY ', 'ON '))
  const added = changed.filter((line) => !before.includes(line) && !line.includes('website_worker'))
  expect(added.filter((line) => !line.includes('_not_null'))).toEqual([
    `column ${table}.created_at: timestamp without time zone not null default CURRENT_TIMESTAMP`,
    `constraint ${table} ${table}_pkey: PRIMARY KEY (id, created_at)`,
    `index CREATE UNIQUE INDEX ${table}_pkey ON public.${table} USING btree (id, created_at)`,
  ])
  expect((await diagnose(database.db)).map(({ level, what }) => [level, what])).toEqual([
    ['note', expect.stringContaining('is partitioned by month')],
  ])
  expect(await migrate(database.url, { online: true })).toMatchObject({ applied: [], added: [], deferred: [] })

  await query(`INSERT INTO ${table} (site_id, page_url) VALUES (${siteId}, 'https://shop.example/since')`)
  await query(`UPDATE ${table} SET created_at = created_at - interval '40 days' WHERE id = 5`)
  await query(`DELETE FROM ${table} WHERE id BETWEEN 10 AND 19`)
  const since = await contentOf(database.db, table)
  await revert()
  expect(await contentOf(database.db, table)).toEqual(since)
  expect(since.rows).toBe(991)
  expect(await catalogue()).toEqual(before)
  expect(await query(`SELECT FROM pg_namespace WHERE nspname = 'website_partitions'`)).toEqual([])
})

test('once finished there is no way back, and nothing is left of the conversion', async () => {
  await fillPageviews(database.db, 500)
  await expect(finish()).rejects.toThrow('not converted yet')
  await enable()
  await query(`UPDATE ${table} SET page_title = 'T' WHERE id % 2 = 0`)
  const rows = await contentOf(database.db, table)
  await finish()
  expect(await contentOf(database.db, table)).toEqual(rows)
  await expect(revert()).rejects.toThrow('no plain table to go back to')
  await expect(finish()).rejects.toThrow('is finished')
  expect(await query('SELECT FROM website_worker.partition_changes')).toEqual([])
  expect(await query(`SELECT tgname FROM pg_trigger WHERE tgname ~ 'partition_changes'`)).toEqual([])
  expect(await readPartitionStatus(database.db)).toMatchObject([
    { table, isPartitioned: true, conversion: undefined, defaultRows: 0, changes: 0 },
    { table: 'website_events', isPartitioned: false },
  ])
})

test('keeps nothing that changed while it was copied, however often it was stopped', async () => {
  const siteId = await fillPageviews(database.db, 1_500)
  const stop = new Error('stopped')
  for (const step of [1, 2, 3]) {
    let seen = 0
    const onProgress = () => {
      if (++seen >= step) throw stop
    }
    await expect(
      maintaining(database, (db) => enablePartitions(db, table, { batch: 100, onProgress })),
    ).rejects.toThrow('stopped')
    await query(`DELETE FROM ${table} WHERE id IN (${step}, ${step + 700})`)
    await query(`UPDATE ${table} SET id = id + 100000 WHERE id = ${step + 20}`)
    await query(
      `UPDATE ${table} SET created_at = created_at - interval '35 days' WHERE id IN (${step + 40}, ${step + 900})`,
    )
    await query(`INSERT INTO ${table} (site_id, page_url) VALUES (${siteId}, '/new')`)
  }
  const rows = await contentOf(database.db, table)
  await enable()
  expect(await contentOf(database.db, table)).toEqual(rows)
  await revert()
  expect(await contentOf(database.db, table)).toEqual(rows)
})

test('a table that is emptied on the way is copied anew', async () => {
  const siteId = await fillPageviews(database.db, 500)
  await enable()
  await query(`TRUNCATE ${table}`)
  await query(`INSERT INTO ${table} (site_id, page_url) VALUES (${siteId}, '/one')`)
  await revert()
  expect(await query(`SELECT page_url FROM ${table}`)).toEqual([{ page_url: '/one' }])
})

test('a main app without any grant of ours writes before, while and after', async () => {
  const siteId = await fillPageviews(database.db, 200)
  const app = await connectAsMainApp(database)
  const write = async () => {
    const { rows } = await app.query(`INSERT INTO ${table} (site_id, page_url) VALUES ($1, '/app') RETURNING id`, [
      siteId,
    ])
    await app.query(`UPDATE ${table} SET page_title = 'app' WHERE id = $1`, [rows[0].id])
    await app.query(`DELETE FROM ${table} WHERE id = $1`, [rows[0].id - 100])
  }
  try {
    await write()
    await maintaining(database, (db) => enablePartitions(db, table, { batch: 50, onProgress: () => void write() }))
    await write()
    await app.query('DELETE FROM website_sites WHERE id = $1', [siteId])
    await expect(app.query(`INSERT INTO ${table} (site_id, page_url) VALUES ($1, '/')`, [siteId])).rejects.toThrow(
      'website_pageviews_site_id_fkey',
    )
  } finally {
    await app.end()
  }
  expect(await query(`SELECT FROM ${table}`)).toEqual([])
  await revert()
  expect(await query(`SELECT FROM ${table}`)).toEqual([])
})

test('needs no superuser, just the owner of the tables', async () => {
  const owner = await createRole(database.pool)
  const own = await createTestDatabase({ template: 'empty' })
  const url = owner.urlOf(own.url)
  const asOwner = createDatabase({ url })
  try {
    await own.pool.query(`GRANT CREATE ON DATABASE ${new URL(url).pathname.slice(1)} TO ${owner.name}`)
    await own.pool.query(`GRANT CREATE ON SCHEMA public TO ${owner.name}`)
    await migrate(url)
    await fillPageviews(asOwner.db, 200)
    const rows = await contentOf(own.db, table)
    await maintaining({ url }, (db) => enablePartitions(db, table))
    await asOwner.db.execute(`INSERT INTO ${table} (page_url, created_at) VALUES ('/', '2020-02-02')`)
    expect(await keepPartitions(asOwner.db)).toEqual([{ table, made: ['2020-02-01'], defaultRows: 0 }])
    await asOwner.db.execute(`DELETE FROM ${table} WHERE created_at = '2020-02-02'`)
    expect(await dropEmptyPartition(asOwner.db, table, '2020-02-01')).toBe(true)
    await maintaining({ url }, (db) => revertPartitions(db, table))
    expect(await contentOf(own.db, table)).toEqual(rows)
    await maintaining({ url }, (db) => enablePartitions(db, table))
    await maintaining({ url }, (db) => finishPartitions(db, table))
    expect(await contentOf(own.db, table)).toEqual(rows)
  } finally {
    await asOwner.close()
    await own.drop()
    await query(`DROP ROLE ${owner.name}`)
  }
})

test('analytics hear of what is written to partitions', async () => {
  const siteId = await fillPageviews(database.db, 50)
  await enable()
  await query('DELETE FROM website_worker.analytics_dirty')
  await query(`INSERT INTO ${table} (site_id, page_url) VALUES (${siteId}, '/'), (${siteId}, '/')`)
  expect(await query('SELECT site_id, kind, rows FROM website_worker.analytics_dirty')).toEqual([
    { site_id: siteId, kind: 'pageviews', rows: 2 },
  ])
})

test('taken back before its foreign keys are settled, it leaves none behind that could refuse the main app', async () => {
  await fillPageviews(database.db, 100)
  await query(`INSERT INTO website_pages (id, slug, title) VALUES (900001, 'p', 'P')`)
  await query(`UPDATE ${table} SET page_id = 900001`)
  await enable()
  // As a kill right after the swap leaves them: on each partition, and not on their parent.
  const [found] = await query(`
    SELECT json_agg(json_build_object('name', conname, 'definition', pg_get_constraintdef(oid))) AS keys
    FROM pg_constraint WHERE conrelid = '${table}'::regclass AND contype = 'f'`)
  const keys = found.keys as { name: string; definition: string }[]
  const leaves = await query(
    `SELECT inhrelid::regclass::text AS leaf FROM pg_inherits WHERE inhparent = '${table}'::regclass`,
  )
  for (const { name } of keys) await query(`ALTER TABLE ${table} DROP CONSTRAINT ${name}`)
  for (const { leaf } of leaves) {
    for (const { name, definition } of keys) {
      await query(`ALTER TABLE ${leaf} ADD CONSTRAINT ${name} ${definition} NOT VALID`)
    }
  }
  await database.pool.query('UPDATE website_worker.partitioning SET foreign_keys = $1', [JSON.stringify(keys)])
  await maintaining(database, (db) => swap(db, table, 'plain'))
  await query(`UPDATE ${table} SET page_id = NULL; DELETE FROM website_pages`)
  await revert()
  const settled = `SELECT FROM pg_constraint WHERE conrelid = '${table}'::regclass AND contype = 'f' AND convalidated`
  expect(await query(settled)).toHaveLength(3)
})

test('an index that is missing is built online, partition by partition', async () => {
  await fillPageviews(database.db, 100)
  await enable()
  const name = 'idx_website_pageviews_site_id_created_at'
  await query(`DROP INDEX ${name}`)
  expect(await migrate(database.url, { online: true })).toMatchObject({ added: [name] })
  expect((await diagnose(database.db)).filter(({ level }) => level !== 'note')).toEqual([])
  await query(`DROP INDEX ${name}; CREATE INDEX ${name} ON ONLY ${table} (site_id, created_at)`)
  expect(await migrate(database.url, { online: true })).toMatchObject({ added: [name] })
  expect(await migrate(database.url, { online: true })).toMatchObject({ added: [] })
})

test('says what stands in the way, and changes nothing', async () => {
  await fillPageviews(database.db, 10)
  await query(`CREATE VIEW their_view AS SELECT count(*) FROM ${table}`)
  await query(`CREATE TABLE notes (pageview_id int REFERENCES ${table})`)
  await query(`CREATE UNIQUE INDEX theirs ON ${table} (session_id, page_url)`)
  await query(`UPDATE ${table} SET created_at = NULL WHERE id < 4; CREATE PUBLICATION all_of_it FOR ALL TABLES`)
  await query(`ALTER TABLE ${table} DROP CONSTRAINT ${table}_customer_id_fkey`)
  await query(`ALTER TABLE ${table} ADD CONSTRAINT lazy FOREIGN KEY (customer_id) REFERENCES partners NOT VALID`)
  const before = await catalogue()
  const refused = await enable().catch((error: Error) => error.message)
  for (const words of [
    'their_view relies on the plain table',
    'notes_pageview_id_fkey on table notes relies',
    'unique index theirs lacks created_at',
    '3 rows have no created_at',
    'publication all_of_it publishes it',
    'foreign key lazy was never validated',
  ]) {
    expect(refused).toContain(words)
  }
  expect(await catalogue()).toEqual(before)
  expect(await query(`SELECT FROM pg_namespace WHERE nspname = 'website_partitions'`)).toEqual([])
})

test('does not swap when a row of the partitions is not the same', async () => {
  await fillPageviews(database.db, 400)
  const onProgress = ({ step }: { step: string }) => {
    if (step === 'compared') throw new Error('stopped')
  }
  await expect(maintaining(database, (db) => enablePartitions(db, table, { batch: 50, onProgress }))).rejects.toThrow()
  await query(`UPDATE website_partitions.${table} SET page_title = 'rotten' WHERE id = 390`)
  await expect(enable()).rejects.toThrow('are not the same in both forms')
  await revert()
  expect(await query(`SELECT relkind FROM pg_class WHERE oid = '${table}'::regclass`)).toEqual([{ relkind: 'r' }])
})

test.each(['half done', 'done'])('uninstalling leaves a table that works, its conversion %s', async (state) => {
  const siteId = await fillPageviews(database.db, 300)
  const rows = await contentOf(database.db, table)
  const onProgress = () => {
    if (state === 'half done') throw new Error('stopped')
  }
  await maintaining(database, (db) => enablePartitions(db, table, { batch: 100, onProgress })).catch(() => {})
  await uninstall(database.db)
  expect(await contentOf(database.db, table)).toEqual(rows)
  expect(await query(`SELECT FROM pg_namespace WHERE nspname = 'website_partitions'`)).toHaveLength(
    state === 'done' ? 1 : 0,
  )
  await query(`INSERT INTO ${table} (site_id, page_url) VALUES (${siteId}, '/')`)
})
