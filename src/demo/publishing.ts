import { sql } from 'drizzle-orm'
import { createClient } from '../client/index.ts'
import { websitePages } from '../db/schema/content.ts'
import { websiteSites } from '../db/schema/sites.ts'
import type { DemoContext, DemoRow } from './webhooks.ts'

/** A page that nobody asks for and one that is asked for over HTTP, both due in a moment. */
export async function demoPublishing({ db, apiUrl, apiKey, until }: DemoContext): Promise<DemoRow[]> {
  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'Demo pages', domain: `pages-${Date.now()}.example`, timezone: 'Europe/Berlin' })
    .returning({ id: websiteSites.id })
  const siteId = site?.id ?? 0
  const publishAt = new Date(Date.now() + 2_500)
  const [scheduled, draft] = await db
    .insert(websitePages)
    .values([
      { siteId, slug: 'spring', title: 'Spring', status: 'scheduled', publishAt },
      { siteId, slug: 'summer', title: 'Summer' },
    ])
    .returning({ id: websitePages.id })
  const client = createClient({ url: apiUrl, apiKey })
  await client.enqueue('publish-page', { pageId: draft?.id, publishAt: publishAt.toISOString() })

  const rows = await until(async () => {
    const found = await db.execute(sql`
      SELECT p.status, round(extract(epoch FROM p.published_at - p.publish_at) * 1000)::int AS late,
        (SELECT count(*)::int FROM website_page_versions v WHERE v.page_id = p.id) AS versions,
        (SELECT count(*)::int FROM website_worker.events e
         WHERE e.site_id = ${siteId} AND (e.body::jsonb -> 'data' ->> 'pageId')::int = p.id) AS events
      FROM website_pages p WHERE p.id IN (${scheduled?.id}, ${draft?.id}) ORDER BY p.id`)
    return found.rows.every((row) => row.status === 'published') ? found.rows : undefined
  })
  return ['scheduled in its row alone', 'asked for over HTTP'].map((how, index) => {
    const row = rows?.[index]
    return {
      job: 'publish-page',
      what: `a page ${how}`,
      result: row ? `published ${row.late} ms after its time, event sent` : 'not done within 30 s',
      ok: row?.versions === 1 && row.events === 1,
    }
  })
}
