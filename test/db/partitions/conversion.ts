import { sql } from 'drizzle-orm'
import { type Db } from '../../../src/db/client.ts'
import { withMaintenanceConnection } from '../../../src/db/ddl.ts'
import type { TestDatabase } from '../../fixtures/database.ts'
import { createSite } from '../main-app.ts'

/** Runs `work` as the command does: on the one connection that may change the shared tables. */
export const maintaining = <T>({ url }: Pick<TestDatabase, 'url'>, work: (db: Db) => Promise<T>): Promise<T> =>
  withMaintenanceConnection(url, () => {}, work)

/** Page views of a site, spread over so many months up to now. */
export async function fillPageviews(db: Db, rows: number, months = 3): Promise<number> {
  const siteId = await createSite(db)
  await db.execute(sql`
    INSERT INTO website_pageviews (site_id, page_url, session_id, created_at)
    SELECT ${siteId}, 'https://shop.example/' || g, 's' || g % 50,
      (now() AT TIME ZONE 'UTC') - (g % ${months * 30}) * interval '1 day' FROM generate_series(1, ${rows}) g`)
  return siteId
}

/** Count and hash of all rows of a relation, whatever their order. */
export async function contentOf(db: Db, relation: string): Promise<{ rows: number; hash: string }> {
  const { rows } = await db.execute(sql`
    SELECT count(*)::int AS rows, coalesce(sum(hashtextextended(t::text, 7)::numeric), 0)::text AS hash
    FROM ${sql.raw(relation)} t`)
  return rows[0] as { rows: number; hash: string }
}
