import { sql } from 'drizzle-orm'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { pathOf } from '../../../src/db/queries/rollups/pageview-parts.ts'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

const scheme = fc.constantFrom('https://', 'https://', 'https:/', 'http://', 'HTTPS://', '//', 'mailto:', '')
const rest = fc.array(
  fc.constantFrom('/', '?', '#', 'a', 'shop.example', 'https://', ':', '\\', '\n', '%', '_', 'ü', '🛒'),
  {
    maxLength: 8,
  },
)

test('says of any URL what the function says', async () => {
  const urls = fc.sample(
    fc.tuple(scheme, rest).map(([before, after]) => before + after.join('')),
    5_000,
  )
  const { rows } = await database.db.execute(sql`
    SELECT url, fast, path FROM (
      SELECT url, ${pathOf(sql`url`)} AS fast, website_worker.path_of(url) AS path FROM unnest(${sql.param(urls)}::text[]) url) u
    WHERE fast IS DISTINCT FROM path`)
  expect(rows).toEqual([])
})
