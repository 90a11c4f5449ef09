import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { sharedTables } from '../../src/db/additions.ts'
import { websitePages } from '../../src/db/schema/index.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { createRole } from './roles.ts'
import { specTables } from './spec-database.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

type Column = (typeof sharedTables)[number]['columns'][number]

const sample: Record<string, string> = { jsonb: `'{}'`, integer: '1', timestamp: 'CURRENT_TIMESTAMP' }

const valueFor = (column: Column) =>
  column.enumValues?.[0] ? `'${column.enumValues[0]}'` : (sample[column.getSQLType()] ?? `'1'`)

function insertInto(name: string): string {
  const table = sharedTables.find((candidate) => candidate.name === name)
  const parents = table?.foreignKeys.flatMap((key) => key.reference().columns[0]?.name ?? []) ?? []
  const needed = (column: Column) => (column.notNull && !column.hasDefault) || parents.includes(column.name)
  const columns = table?.columns.filter(needed) ?? []
  return `INSERT INTO ${name} (${columns.map((column) => column.name)}) VALUES (${columns.map(valueFor)})`
}

test('lets a role without any grant of ours write every shared table, with updated_at in UTC', async () => {
  const role = await createRole(database.pool)
  await database.pool.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role.name}`)
  await database.pool.query(`GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ${role.name}`)
  await database.pool.query('INSERT INTO users DEFAULT VALUES; INSERT INTO partners DEFAULT VALUES')
  const app = await database.pool.connect()
  await app.query(`SET ROLE ${role.name}`)
  await app.query(`SET timezone = 'Asia/Kolkata'`)
  for (const table of specTables) await app.query(insertInto(table))

  const late: string[] = []
  for (const table of specTables) {
    await app.query(`UPDATE ${table} SET id = id`)
    const columns = sharedTables.find((candidate) => candidate.name === table)?.columns ?? []
    if (!columns.some((column) => column.name === 'updated_at')) continue
    const { rows } = await app.query(
      `SELECT abs(extract(epoch FROM updated_at - (now() AT TIME ZONE 'UTC'))) < 60 AS right FROM ${table}`,
    )
    if (!rows[0]?.right) late.push(table)
  }
  for (const table of specTables.toReversed()) await app.query(`DELETE FROM ${table}`)
  app.release(true)
  expect(late).toEqual([])
})

test('reads and writes TIMESTAMP columns as UTC whatever the timezone of the process', async () => {
  vi.stubEnv('TZ', 'America/New_York')
  try {
    const publishAt = new Date('2026-03-08T02:30:00.123Z')
    expect(publishAt.getHours()).toBe(21)
    const [page] = await database.db.insert(websitePages).values({ slug: 'a', title: 'A', publishAt }).returning()
    expect(page?.publishAt).toEqual(publishAt)
    expect(Math.abs(Date.now() - Number(page?.createdAt))).toBeLessThan(60_000)
    const { rows } = await database.pool.query('SELECT publish_at::text AS text FROM website_pages')
    expect(rows).toEqual([{ text: '2026-03-08 02:30:00.123' }])
  } finally {
    vi.unstubAllEnvs()
  }
})
