import { sql } from 'drizzle-orm'
import pg from 'pg'
import { websiteWebhooks } from '../src/db/schema/integrations.ts'
import { migrateAll } from '../src/resources.ts'
import { cloneDatabase, startPostgres } from '../test/fixtures/services.ts'
import { startRedis } from '../test/fixtures/redis.ts'
import { pause, percentile } from './measure.ts'
import { makeSite, secret, startProduct } from './product.ts'
import { startBenchReceivers } from './receiver.ts'

const singles = 500
const spreadMs = 30_000
const overdue = 50
const together = 10_000
const sites = 10

type Product = Awaited<ReturnType<typeof startProduct>>

/** Hears of published pages the moment their transaction is committed: page → instant. */
async function listen(databaseUrl: string) {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  await client.query(`
    CREATE FUNCTION public.bench_heard() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN PERFORM pg_notify('bench', NEW.id::text); RETURN NULL; END $$;
    CREATE TRIGGER bench_heard AFTER UPDATE ON public.website_pages FOR EACH ROW
      WHEN (NEW.status = 'published' AND OLD.status <> 'published') EXECUTE FUNCTION public.bench_heard()`)
  const heard = new Map<number, number>()
  let twice = 0
  client.on('notification', ({ payload }) => {
    if (heard.has(Number(payload))) twice++
    heard.set(Number(payload), Date.now())
  })
  await client.query('LISTEN bench')
  return {
    heard,
    twice: () => twice,
    async close() {
      await client.query('DROP TRIGGER bench_heard ON public.website_pages')
      await client.end()
    },
  }
}

/** Makes pages due at instants, ms since 1970; as drafts where they are to be asked for. */
async function makePages(product: Product, siteIds: readonly number[], dueAt: readonly number[], isDraft = false) {
  const { rows } = await product.db.execute(
    sql`INSERT INTO website_pages (site_id, slug, title, status, publish_at, blocks)
        SELECT (${sql.param(siteIds)}::int[])[1 + d.n % ${siteIds.length}], gen_random_uuid()::text, 'A page to be published',
          CASE WHEN ${isDraft} THEN 'draft' ELSE 'scheduled' END,
          CASE WHEN NOT ${isDraft} THEN to_timestamp(d.ms / 1000.0) AT TIME ZONE 'UTC' END,
          '[{"type": "text", "text": "Words, as pages have them."}]'
        FROM unnest(${sql.param(dueAt)}::float8[]) WITH ORDINALITY AS d(ms, n) ORDER BY d.n RETURNING id`,
  )
  return rows.map((row) => row.id as number)
}

async function until(isSo: () => Promise<boolean> | boolean, everyMs: number) {
  while (!(await isSo())) await pause(everyMs)
}

/** Pages due at random moments, half of them never asked for; then some that were due long ago. */
async function benchSingles(product: Product, databaseUrl: string, siteIds: readonly number[]) {
  const ear = await listen(databaseUrl)
  const begin = Date.now() + 20_000
  const dueAt = Array.from({ length: singles }, () => begin + Math.floor(Math.random() * spreadMs))
  const half = singles / 2
  const ids = [
    ...(await makePages(product, siteIds, dueAt.slice(0, half))),
    ...(await makePages(product, siteIds, dueAt.slice(half), true)),
  ]
  for (let n = half; n < singles; n += 10) {
    await Promise.all(
      ids.slice(n, n + 10).map((pageId, i) => {
        const publishAt = new Date(dueAt[n + i]!).toISOString()
        return product.client.enqueue('publish-page', { pageId, publishAt })
      }),
    )
  }
  if (Date.now() > begin - 2_000) throw new Error('asking for the pages took until they were due')
  await until(() => ear.heard.size >= singles, 50)
  const late = ids.map((id, n) => ear.heard.get(id)! - dueAt[n]!)

  const past: number[] = []
  for (let n = 0; n < overdue; n++) {
    await pause(Math.random() * 100)
    const written = Date.now()
    const [id] = await makePages(product, siteIds, [written - 3_600_000])
    await until(() => ear.heard.has(id!), 5)
    past.push(ear.heard.get(id!)! - written)
  }
  await ear.close()
  return {
    singleP50Ms: percentile(late, 0.5),
    singleP99Ms: percentile(late, 0.99),
    singleWorstMs: Math.max(...late),
    earlyMs: Math.max(0, -Math.min(...late)),
    pastWorstMs: Math.max(...past),
    twice: ear.twice(),
  }
}

/** How long after their common time many pages are all published, with their versions, audit rows and events. */
async function benchTogether(product: Product, siteIds: readonly number[]) {
  // Each page's event goes to a webhook as well: what that takes is part of what is measured.
  const dueAt = Date.now() + 20_000
  const ids = await makePages(product, siteIds, Array<number>(together).fill(dueAt))
  const [first, last] = [ids[0]!, ids.at(-1)!]
  const counted = async () => {
    const { rows } = await product.db.execute(
      sql`SELECT count(*)::int AS n FROM website_pages WHERE id BETWEEN ${first} AND ${last} AND status = 'published'`,
    )
    return Number(rows[0]?.n)
  }
  await pause(dueAt - Date.now())
  let firstMs = 0
  await until(async () => {
    const n = await counted()
    if (n > 0 && firstMs === 0) firstMs = Date.now() - dueAt
    return n === together
  }, 50)
  const tenThousandLastMs = Date.now() - dueAt
  const { rows } = await product.db.execute(
    sql`SELECT
          (SELECT count(DISTINCT body::jsonb -> 'data' ->> 'pageId') FROM website_worker.events
           WHERE (body::jsonb -> 'data' ->> 'pageId')::int BETWEEN ${first} AND ${last})::int AS events,
          (SELECT count(*) FROM website_page_versions WHERE page_id BETWEEN ${first} AND ${last})::int AS versions,
          (SELECT count(*) FROM website_audit_logs WHERE resource_id BETWEEN ${first} AND ${last})::int AS audited`,
  )
  const { events, versions, audited } = rows[0] as { events: number; versions: number; audited: number }
  await until(async () => {
    const left = await product.db.execute(
      sql`SELECT FROM website_worker.work WHERE job = 'deliver-webhook' AND state = 'owed' LIMIT 1`,
    )
    return left.rows.length === 0
  }, 100)
  return {
    tenThousandFirstMs: firstMs,
    tenThousandLastMs,
    eventsEmitted: events,
    versions,
    audited,
    deliveredLastMs: Date.now() - dueAt,
  }
}

/** How late pages are published: alone, long overdue, and ten thousand at one instant. */
export async function benchPublish(): Promise<Record<string, number>> {
  const postgres = await startPostgres()
  const redis = await startRedis()
  const receivers = await startBenchReceivers()
  const database = await cloneDatabase(postgres.url, 'empty')
  await migrateAll(database.url)
  const product = await startProduct({ databaseUrl: database.url, redisUrl: redis.url })
  try {
    const siteIds: number[] = []
    for (let n = 0; n < sites; n++) siteIds.push(await makeSite(product.db, receivers.urls[0]!))
    await product.db.insert(websiteWebhooks).values(
      siteIds.map((siteId) => ({
        siteId,
        name: 'bench',
        event: 'content.published' as const,
        targetUrl: receivers.urls[0]!,
        secret,
      })),
    )
    return { ...(await benchSingles(product, database.url, siteIds)), ...(await benchTogether(product, siteIds)) }
  } finally {
    await product.stop()
    await database.drop()
    await receivers.close()
    await redis.stop()
    await postgres.stop()
  }
}
