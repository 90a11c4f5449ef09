import pg from 'pg'
import { eq } from 'drizzle-orm'
import { websiteSites, websiteWebhooks, work } from '../../src/db/schema/index.ts'
import type { Db } from '../../src/db/client.ts'
import type { TestDatabase } from '../fixtures/database.ts'

/** A role that may use the shared tables and nothing of ours, and a pool that works as it, far from UTC. */
export async function connectAsMainApp({ url, pool }: Pick<TestDatabase, 'url' | 'pool'>): Promise<pg.Pool> {
  await pool.query(`
    DO $$ BEGIN CREATE ROLE main_app; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`)
  const { rows } = await pool.query<{ grants: string }>(`
    SELECT string_agg(format('GRANT ALL ON public.%I TO main_app', tablename), ';') AS grants
    FROM pg_tables WHERE schemaname = 'public'`)
  await pool.query(`${rows[0]!.grants}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO main_app`)
  return new pg.Pool({ connectionString: url, options: '-c role=main_app -c timezone=Asia/Kolkata' })
}

export async function createSite(db: Db, overrides: Partial<typeof websiteSites.$inferInsert> = {}): Promise<number> {
  const domain = `shop-${Math.random().toString(36).slice(2)}.example`
  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'Shop', domain, ...overrides })
    .returning()
  return site!.id
}

export async function createWebhook(
  db: Db,
  siteId: number,
  overrides: Partial<typeof websiteWebhooks.$inferInsert> = {},
): Promise<number> {
  const [webhook] = await db
    .insert(websiteWebhooks)
    .values({
      siteId,
      name: 'Receiver',
      event: 'order.created',
      targetUrl: 'https://user:password@receiver.example:8443/hook?token=1',
      secret: 'secret',
      ...overrides,
    })
    .returning()
  return webhook!.id
}

/** The work items of a job, oldest first. */
export function workOf(db: Db, job: string) {
  return db.select().from(work).where(eq(work.job, job)).orderBy(work.id)
}
