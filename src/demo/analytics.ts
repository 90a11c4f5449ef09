import { sql } from 'drizzle-orm'
import { readAnalytics } from '../client/index.ts'
import { websiteSites } from '../db/schema/sites.ts'
import type { DemoContext, DemoRow } from './webhooks.ts'

const visitors = 8
const viewsOfEach = 3
const botViews = 4
const day = '2026-03-01'

/** Page views as a main app writes them, which the worker counts without being asked. */
export async function demoAnalytics({ db, until }: DemoContext): Promise<DemoRow[]> {
  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'Demo visitors', domain: `visitors-${Date.now()}.example` })
    .returning({ id: websiteSites.id })
  const siteId = site?.id ?? 0
  await db.execute(sql`
    INSERT INTO website_pageviews (site_id, page_url, session_id, user_agent, created_at)
    SELECT ${siteId}::int, 'https://demo.example/page-' || view, 'visitor-' || visitor,
      'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
      ${day}::date + interval '12 hours' + visitor * interval '1 minute' + view * interval '20 seconds'
    FROM generate_series(1, ${visitors}::int) visitor, generate_series(1, ${viewsOfEach}::int) view
    UNION ALL
    SELECT ${siteId}::int, 'https://demo.example/page-1', NULL, 'Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)',
      ${day}::date + interval '13 hours'
    FROM generate_series(1, ${botViews}::int)`)

  const totals = await until(async () => {
    const { totals: found } = await readAnalytics(db, { siteId, from: day, to: day, parts: ['totals'] })
    return found.pageviews > 0 ? found : undefined
  })
  return [
    {
      job: 'roll-up-analytics',
      what: `${visitors * viewsOfEach + botViews} page views, ${botViews} of a search engine`,
      result: totals
        ? `${totals.pageviews} views by ${totals.visitors} visitors in ${totals.visits} visits`
        : 'not counted within 30 s',
      ok:
        totals?.pageviews === visitors * viewsOfEach &&
        totals.botPageviews === botViews &&
        totals.visits === visitors &&
        totals.visitors === visitors,
    },
  ]
}
