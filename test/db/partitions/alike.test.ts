import { afterEach, beforeEach, expect, test } from 'vitest'
import { enablePartitions, finishPartitions, revertPartitions } from '../../../src/db/partitions/convert.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { fillPageviews, maintaining } from './conversion.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

const table = 'website_pageviews'
const enable = () => maintaining(database, (db) => enablePartitions(db, table))
const revert = () => maintaining(database, (db) => revertPartitions(db, table))
const finish = () => maintaining(database, (db) => finishPartitions(db, table))
const query = async (text: string) => (await database.pool.query(text)).rows

test('what the main app adds to a table while it is copied is never lost: it is not swapped', async () => {
  await fillPageviews(database.db, 200)
  const onProgress = () => {
    throw new Error('stopped')
  }
  await maintaining(database, (db) => enablePartitions(db, table, { batch: 50, onProgress })).catch(() => {})
  await query(`CREATE INDEX theirs ON ${table} (page_title)`)
  await expect(enable()).rejects.toThrow(/index theirs USING btree \(page_title\)\): take it back/)
  await query(`DROP INDEX theirs; ALTER TABLE ${table} ALTER COLUMN page_title SET DEFAULT 'none'`)
  await expect(enable()).rejects.toThrow('column page_title')
  await revert()
  expect(await enable()).toBe('converted')
})

test('a column that the main app adds before the conversion is finished keeps no one from going on or back', async () => {
  await fillPageviews(database.db, 200)
  await enable()
  await query(`ALTER TABLE ${table} ADD COLUMN theirs text`)
  await query(`UPDATE ${table} SET theirs = 'new' WHERE id < 10`)
  await expect(revert()).rejects.toThrow(`make the same change to website_worker.${table}`)
  await expect(finish()).rejects.toThrow(`make the same change to website_worker.${table}`)
  await query(`ALTER TABLE website_worker.${table} ADD COLUMN theirs text`)
  await revert()
  expect(await query(`SELECT count(*)::int AS n FROM ${table} WHERE theirs = 'new'`)).toEqual([{ n: 9 }])
})
