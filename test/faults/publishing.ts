import { sql } from 'drizzle-orm'
import { websiteSites } from '../../src/db/schema/sites.ts'
import { demand, until, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { readEpoch } from './shop.ts'
import { apiKey, inWorld, type Scenario, type World } from './world.ts'

const total = 500
const spreadMs = 15_000
const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' }

/** Pages due at random moments from `aheadMs` from now; every other one is a draft to be asked for. */
async function writePages(world: World, siteId: number, aheadMs: number) {
  const { rows } = await world.db.execute(sql`
    INSERT INTO website_pages (site_id, slug, title, status, publish_at)
    SELECT ${siteId}, 'page-' || g, 'Page ' || g, CASE WHEN g % 2 = 0 THEN 'scheduled' ELSE 'draft' END,
      (clock_timestamp() AT TIME ZONE 'UTC') + (${aheadMs} + random() * ${spreadMs}) * interval '1 ms'
    FROM generate_series(1, ${total}) g ORDER BY g
    RETURNING id, status, to_char(publish_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at`)
  return rows as { id: number; status: string; at: string }[]
}

async function askFor(api: Product, pages: readonly { id: number; at: string }[]) {
  for (let from = 0; from < pages.length; from += 10) {
    await Promise.all(
      pages.slice(from, from + 10).map(async ({ id, at }) => {
        const body = JSON.stringify({ pageId: id, publishAt: at })
        const { status } = await fetch(`${api.url}/v1/jobs/publish-page`, { method: 'POST', headers, body })
        demand(status === 202, `a request got ${status}`)
      }),
    )
  }
}

/** What was done to the pages, in numbers. */
async function readPages(world: World) {
  // Whole tables; a scenario's are small.
  const { rows } = await world.db.execute(sql`
    WITH done AS (
      SELECT p.id, p.status, p.published_at < p.publish_at AS early,
        (SELECT count(*) FROM website_page_versions v WHERE v.page_id = p.id) AS versions,
        (SELECT count(*) FROM website_audit_logs a WHERE a.resource_id = p.id AND a.action = 'page.published') AS audited,
        (SELECT count(*) FROM website_worker.events e
         WHERE e.event = 'content.published' AND (e.body::jsonb -> 'data' ->> 'pageId')::int = p.id) AS events
      FROM website_pages p)
    SELECT count(*) FILTER (WHERE status = 'published')::int AS published, count(*) FILTER (WHERE early)::int AS early,
      count(*) FILTER (WHERE status = 'published' AND (versions, audited, events) = (1, 1, 1))::int AS once,
      (SELECT count(*) FROM website_worker.work WHERE job = 'publish-page' AND state NOT IN ('done'))::int AS unfinished
    FROM done`)
  return rows[0] as { published: number; early: number; once: number; unfinished: number }
}

function publish(setting: Parameters<Scenario['run']>[0]): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const redis = await world.redis()
    const env = { REDIS_URL: redis.url }
    const [site] = await world.db.insert(websiteSites).values({ name: 'Site', domain: 'site.example' }).returning()
    const api = await world.start('api', env)
    const victim = await world.start('worker', env)
    await world.start('worker', env)
    const pages = await writePages(world, site?.id ?? 0, 5_000)
    await askFor(
      api,
      pages.filter((page) => page.status === 'draft'),
    )
    let seen = await readPages(world)
    const reached = (n: number) =>
      until(
        `${n} pages`,
        90_000,
        async () => (seen = await readPages(world)).published >= n,
        () => seen,
      )
    await reached(total * 0.2)
    await redis.flush()
    await reached(total * 0.4)
    await victim.kill()
    await reached(total * 0.6)
    await redis.flush()
    await world.start('worker', env)
    await reached(total)
    const endedMs = await until(
      'every item ends',
      60_000,
      async () => (seen = await readPages(world)).unfinished === 0,
      () => seen,
    )
    demand(seen.early === 0, `${seen.early} pages went out before their time`)
    demand(seen.once === total, `${seen.once} of ${total} pages have one version, one audit row and one event`)
    const { rows } = await world.db.execute(sql`
      SELECT round(extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY published_at - publish_at)) * 1000)::int AS p50,
        round(extract(epoch FROM max(published_at - publish_at)) * 1000)::int AS worst FROM website_pages`)
    const { p50, worst } = rows[0] as { p50: number; worst: number }
    return { latenessP50Ms: p50, worstLatenessMs: worst, endedMs, alarms: (await readEpoch(world)).alarms }
  })
}

export const publishing: Scenario = {
  name: 'publishing',
  title:
    '500 scheduled pages, two workers, two wipes and a kill -9 in the middle: each page published once, none missed',
  run: publish,
}
