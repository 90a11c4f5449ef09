import { afterEach, beforeEach, expect, test } from 'vitest'
import { diagnose } from '../../../src/db/doctor.ts'
import { enablePartitions, finishPartitions, revertPartitions } from '../../../src/db/partitions/convert.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { readCatalogue } from '../catalogue.ts'
import { contentOf, fillPageviews, maintaining } from './conversion.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

const table = 'website_pageviews'
const enable = () => maintaining(database, (db) => enablePartitions(db, table, { batch: 300 }))
const revert = () => maintaining(database, (db) => revertPartitions(db, table, { batch: 300 }))
const finish = () => maintaining(database, (db) => finishPartitions(db, table, { batch: 300 }))
const query = async (text: string) => (await database.pool.query(text)).rows

test('try', async () => {
  await fillPageviews(database.db, 2_000)
  const before = await contentOf(database.db, table)
  const catalogue = await readCatalogue(database.pool, { tables: [table] })
  expect(await enable()).toBe('converted')
  expect(await contentOf(database.db, table)).toEqual(before)
  console.log((await readCatalogue(database.pool, { tables: [table] })).filter((l) => !catalogue.includes(l)))
  console.log(await diagnose(database.db))
  await revert()
  expect(await contentOf(database.db, table)).toEqual(before)
  expect(await readCatalogue(database.pool, { tables: [table] })).toEqual(catalogue)
  await enable()
  await finish()
  console.log(await query(`SELECT count(*) FROM pg_constraint WHERE contype='f' AND conparentid<>0`))
})
