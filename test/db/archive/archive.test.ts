import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { archiveMonth, dropMonth, writeMonth } from '../../../src/db/archive/month.ts'
import { rowsOf } from '../../../src/db/archive/rows.ts'
import { archiveOld } from '../../../src/db/archive/run.ts'
import { verifyArchive, type VerifiedFile } from '../../../src/db/archive/verify.ts'
import { messageOf } from '../../../src/errors.ts'
import { enablePartitions } from '../../../src/db/partitions/convert.ts'
import { contentOf, maintaining } from '../partitions/conversion.ts'
import { type ArchiveWorld, createArchiveWorld, past } from './archive-fixtures.ts'

let world: ArchiveWorld
beforeEach(async () => {
  world = await createArchiveWorld()
})
afterEach(() => world.close())

const table = 'website_pageviews'
const file = `${table}/${past.name}.ndjson.gz`
const run = () => archiveOld(world.database.db, world.options)
const write = () => writeMonth(world.database.db, table, past.month, world.options)
const old = async () => (await world.query(`SELECT id FROM ${table} WHERE created_at < '2025-02-01'`)).length
const books = () => world.query(`SELECT file, state, rows::int, error FROM website_worker.archives ORDER BY part`)
async function verify(): Promise<VerifiedFile[]> {
  const files: VerifiedFile[] = []
  for await (const each of verifyArchive(world.dir)) files.push(each)
  return files
}

test('moves the rows of a month to a file from which they can be restored exactly, and leaves the others', async () => {
  const before = await contentOf(world.database.db, table)
  expect(await run()).toEqual([{ table, month: past.month, file, rows: 1_200 }])
  expect(await old()).toBe(0)
  expect(await world.query(`SELECT id FROM ${table}`)).toHaveLength(5)
  expect(await verify()).toEqual([{ file, rows: 1_200 }])
  expect((await readdir(join(world.dir, table))).toSorted()).toEqual([
    `${past.name}.manifest.json`,
    `${past.name}.ndjson.gz`,
  ])
  expect(await run()).toEqual([])
  const lines = gunzipSync(await readFile(join(world.dir, file)))
    .toString()
    .trimEnd()
    .split('\n')
  await world.database.db.execute(sql`
    INSERT INTO website_pageviews
    SELECT r.* FROM unnest(${sql.param(lines)}::text[]) AS line, jsonb_populate_record(NULL::website_pageviews, line::jsonb) AS r`)
  expect(await contentOf(world.database.db, table)).toEqual(before)
})

describe('refuses to drop anything', () => {
  const corrupt = async (path: string, at: number) => {
    const bytes = await readFile(join(world.dir, path))
    bytes[at] = bytes[at]! ^ 1
    await writeFile(join(world.dir, path), bytes)
  }

  test('when one byte of the file is not the one that was written, until the file is gone', async () => {
    await write()
    await corrupt(file, 2_000)
    const refused = expect.stringContaining('its bytes are not those that were written')
    expect(await run()).toEqual([{ table, month: past.month, file, rows: 0, refused }])
    expect(await run()).toEqual([{ table, month: past.month, file, rows: 0, refused }])
    expect(await old()).toBe(1_200)
    expect(await books()).toEqual([{ file, state: 'written', rows: 1_200, error: refused }])
    expect(await verify()).toEqual([{ file, rows: 0, fault: refused }])
    await rm(join(world.dir, file))
    expect(await run()).toMatchObject([{ rows: 1_200 }])
    expect(await old()).toBe(0)
  })

  test('when the manifest is gone, or another one', async () => {
    await write()
    const path = join(world.dir, table, `${past.name}.manifest.json`)
    const manifest = await readFile(path, 'utf8')
    await rm(path)
    expect(await run()).toMatchObject([{ rows: 0, refused: expect.stringContaining("manifest can't be read") }])
    await writeFile(path, manifest.replace('"rows": 1200', '"rows": 1199'))
    expect(await run()).toMatchObject([{ rows: 0, refused: expect.stringContaining('not the one that was written') }])
    expect(await old()).toBe(1_200)
  })

  test('when rows were changed after they were written; they are written anew', async () => {
    await write()
    await world.query(`UPDATE ${table} SET page_title = 'Changed' WHERE id = 7; DELETE FROM ${table} WHERE id = 8`)
    await world.query('DELETE FROM website_worker.analytics_dirty')
    expect(await run()).toMatchObject([{ rows: 0, refused: expect.stringContaining('2 of its rows were changed') }])
    expect(await old()).toBe(1_199)
    expect(await run()).toMatchObject([{ rows: 1_199 }])
    expect(gunzipSync(await readFile(join(world.dir, file))).toString()).toContain('"Changed"')
  })

  test('while analytics of that time are yet to be rolled up, and seals it with the first row', async () => {
    const sealed = () =>
      world.query('SELECT sealed_before FROM website_worker.rollup_sites WHERE sealed_before IS NOT NULL')
    await world.query(`UPDATE ${table} SET page_title = 'Late' WHERE id = 7`)
    expect(await run()).toMatchObject([{ rows: 0, refused: expect.stringContaining('yet to be rolled up') }])
    expect(await sealed()).toEqual([])
    await world.query('DELETE FROM website_worker.analytics_dirty')
    expect(await run()).toMatchObject([{ rows: 1_200 }])
    expect(await sealed()).toEqual([{ sealed_before: new Date('2025-02-01T00:00:00Z') }])
    expect(await world.query('SELECT FROM website_worker.analytics_dirty')).toEqual([])
  })

  test('of a table that others refer to', async () => {
    await world.query(`CREATE TABLE notes (pageview_id int REFERENCES ${table} ON DELETE CASCADE)`)
    expect(await run()).toMatchObject([
      { rows: 0, refused: 'notes refers to its rows: removing them might remove rows there' },
    ])
    expect(await old()).toBe(1_200)
  })
})

test('goes on where it was stopped, and removes nothing that the file does not hold', async () => {
  const part = await write()
  await world.query(`UPDATE website_worker.archives SET state = 'dropping'`)
  await world.query(`DELETE FROM ${table} WHERE id BETWEEN 100 AND 399`)
  await world.query(`UPDATE ${table} SET page_title = 'Changed' WHERE id = 7`)
  expect(await dropMonth(world.database.db, { ...part!, state: 'dropping' }, world.options)).toMatchObject({
    rows: 899,
  })
  expect(await world.query(`SELECT id FROM ${table} WHERE created_at < '2025-02-01'`)).toEqual([{ id: 7 }])
})

test('rows that come late for a month go to a file of their own', async () => {
  await run()
  await world.query(
    `INSERT INTO ${table} (site_id, page_url, created_at) VALUES (${world.siteId}, '/late', '2025-01-31 23:59:59.999999')`,
  )
  await world.query('DELETE FROM website_worker.analytics_dirty')
  const late = `${table}/${past.name}.2.ndjson.gz`
  expect(await run()).toEqual([{ table, month: past.month, file: late, rows: 1 }])
  expect(await verify()).toEqual([
    { file: late, rows: 1 },
    { file, rows: 1_200 },
  ])
})

test('never writes over a file that its books do not know of', async () => {
  await run()
  const before = await readFile(join(world.dir, file))
  await world.query('DELETE FROM website_worker.archives')
  await world.query(
    `INSERT INTO ${table} (site_id, page_url, created_at) VALUES (${world.siteId}, '/late', '2025-01-09')`,
  )
  await world.query('DELETE FROM website_worker.analytics_dirty')
  expect(await run()).toMatchObject([{ file: `${table}/${past.name}.2.ndjson.gz`, rows: 1 }])
  expect((await readFile(join(world.dir, file))).equals(before)).toBe(true)
})

test('a run that another overtook names no file, and leaves the books as they are', async () => {
  await world.query(
    `INSERT INTO website_worker.archives (table_name, month, part, state, file) VALUES ('${table}', '${past.month}', 1, 'writing', '${file}')`,
  )
  await mkdir(join(world.dir, table))
  await writeFile(join(world.dir, `${file}.0badcafe.tmp`), 'of a run that was killed')
  const other = await world.database.pool.connect()
  await other.query('BEGIN')
  await other.query('SELECT FROM website_worker.archives FOR UPDATE')
  const overtaken = write().catch(messageOf)
  await vi.waitFor(async () =>
    expect(
      await world.query(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`),
    ).toHaveLength(1),
  )
  await other.query(`UPDATE website_worker.archives SET state = 'dropped', rows = 7`)
  await other.query('COMMIT')
  other.release()
  expect(await overtaken).toBe('another run is at it')
  expect(await books()).toEqual([{ file, state: 'dropped', rows: 7, error: null }])
  expect(await readdir(join(world.dir, table))).toEqual([])
})

test('stops between two pages when it is told to, and begins the file anew', async () => {
  const stop = new AbortController()
  const options = { ...world.options, signal: stop.signal }
  stop.abort()
  await expect(archiveMonth(world.database.db, table, past.month, options)).rejects.toThrow('abort')
  expect(await readdir(join(world.dir, table))).toEqual([])
  expect(await old()).toBe(1_200)
  expect(await run()).toMatchObject([{ rows: 1_200 }])
})

test('reads rows of any size in pages that memory can hold', async () => {
  await world.query(
    `INSERT INTO website_events (site_id, event_type, event_name, properties, created_at)
     SELECT ${world.siteId}, 'import', 'row ' || g, jsonb_build_object('text', repeat('ü', 1000000)), '2025-01-05'
     FROM generate_series(1, 7) g`,
  )
  const pages: number[] = []
  for await (const page of rowsOf(world.database.db, 'website_events', past.month, world.options.signal))
    pages.push(page.length)
  expect(pages).toEqual([2, 2, 2, 1])
})

test('archives events and audit logs too, each month by itself, and none that is too young', async () => {
  await world.query(`INSERT INTO website_events (site_id, event_type, event_name, created_at) VALUES
    (${world.siteId}, 'click', 'a', '2025-02-28 23:59:59.9'), (${world.siteId}, 'click', 'b', '2025-03-01')`)
  await world.query(`INSERT INTO website_audit_logs (action, resource_type, changes, created_at) VALUES
    ('x', 'page', '{"a": 1.50}', '2025-03-05'), ('y', 'page', NULL, (now() AT TIME ZONE 'UTC') - interval '80 days')`)
  await world.query('DELETE FROM website_worker.analytics_dirty')
  expect((await run()).map(({ file, rows }) => [file, rows])).toEqual([
    [file, 1_200],
    ['website_events/2025-02.ndjson.gz', 1],
    ['website_events/2025-03.ndjson.gz', 1],
    ['website_audit_logs/2025-03.ndjson.gz', 1],
  ])
  expect(await world.query('SELECT action FROM website_audit_logs')).toEqual([{ action: 'y' }])
})

test('drops the partition of a month that was archived', async () => {
  await maintaining(world.database, (db) => enablePartitions(db, table))
  const partition = `website_partitions.${table}_2025_01`
  const there = () => world.query(`SELECT to_regclass('${partition}')::text AS partition`)
  expect(await there()).toEqual([{ partition }])
  expect(await run()).toMatchObject([{ rows: 1_200 }])
  expect(await there()).toEqual([{ partition: null }])
  expect(await world.query(`SELECT id FROM ${table}`)).toHaveLength(5)
})
