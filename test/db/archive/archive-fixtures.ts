import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { opened } from '../../fixtures/open-fixtures.ts'
import { createSite } from '../main-app.ts'

/** A month that is long past, and the first day of the next. */
export const past = { month: '2025-01-01', name: '2025-01' }

export interface ArchiveWorld {
  database: TestDatabase
  siteId: number
  dir: string
  options: { dir: string; signal: AbortSignal; afterMonths: number }
  /** The rows of a query. */
  query<Row = Record<string, unknown>>(text: string): Promise<Row[]>
  close(): Promise<void>
}

/** A site whose analytics are all rolled up, with `rows` pageviews in January 2025 and some today, and an empty folder. */
export async function createArchiveWorld(rows = 1_200): Promise<ArchiveWorld> {
  const database = await createTestDatabase()
  const dir = await mkdtemp(join(tmpdir(), 'website-worker-archive-'))
  const closed = opened(`archive ${dir}`)
  const siteId = await createSite(database.db)
  await database.db.execute(sql`
    INSERT INTO website_pageviews (site_id, page_url, page_title, ip_address, created_at)
    SELECT ${siteId}, 'https://shop.example/ä?q="' || g || chr(10), CASE WHEN g % 2 = 0 THEN 'Title ' || g END, '10.0.0.1',
      timestamp '2025-01-01' + g % 31 * interval '1 day' + g * interval '1 microsecond'
    FROM generate_series(1, ${rows}) g`)
  await database.db.execute(sql`
    INSERT INTO website_pageviews (site_id, page_url) SELECT ${siteId}, '/' FROM generate_series(1, 5)`)
  await database.db.execute(sql`DELETE FROM website_worker.analytics_dirty`)
  return {
    database,
    siteId,
    dir,
    options: { dir, signal: new AbortController().signal, afterMonths: 3 },
    query: async <Row>(text: string) => (await database.pool.query(text)).rows as Row[],
    async close() {
      await database.drop()
      await rm(dir, { recursive: true })
      closed()
    },
  }
}
