import { sql } from 'drizzle-orm'
import { publishPages } from '../../src/db/queries/publish.ts'
import {
  events,
  websiteAuditLogs,
  websitePages,
  websitePageVersions,
  websiteSites,
  work,
} from '../../src/db/schema/index.ts'
import type { Db } from '../../src/db/client.ts'
import { publishPageProcessor } from '../../src/processors/publish-page.ts'
import { publishPage } from '../../src/queues/publish-page.ts'
import { createBatcher } from '../../src/worker/batcher.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { createStack, type StackOptions } from '../fixtures/stack.ts'

type NewPage = Partial<typeof websitePages.$inferInsert>

/** Hands to put pages in and to look at what became of them. */
export function pagesOf(db: Db) {
  let count = 0
  const one = async <Row>(rows: Promise<Row[]>): Promise<Row> => (await rows)[0]!
  return {
    site: async (values: Partial<typeof websiteSites.$inferInsert> = {}) =>
      (
        await one(
          db
            .insert(websiteSites)
            .values({ name: 'Site', domain: crypto.randomUUID(), ...values })
            .returning(),
        )
      ).id,
    /** A page, scheduled for so many ms from now by Postgres's clock. */
    async page(siteId: number | null, dueInMs: number | null = 0, values: NewPage = {}): Promise<number> {
      const publishAt =
        dueInMs === null ? null : sql`(clock_timestamp() AT TIME ZONE 'UTC') + ${dueInMs} * interval '1 ms'`
      const row = { siteId, slug: `page-${++count}`, title: 'A page', status: 'scheduled' as const, ...values }
      const inserted = db.insert(websitePages).values({ publishAt: publishAt as never, ...row })
      return (await one(inserted.returning())).id
    },
    change: (id: number, values: NewPage) =>
      db
        .update(websitePages)
        .set(values)
        .where(sql`id = ${id}`),
    /** Schedules it for so many ms from now. */
    reschedule: (id: number, dueInMs: number) =>
      db.execute(
        sql`UPDATE website_pages SET publish_at = (clock_timestamp() AT TIME ZONE 'UTC') + ${dueInMs} * interval '1 ms'
            WHERE id = ${id}`,
      ),
    read: (id: number) =>
      one(
        db
          .select()
          .from(websitePages)
          .where(sql`id = ${id}`),
      ),
    versions: (id: number) =>
      db
        .select()
        .from(websitePageVersions)
        .where(sql`page_id = ${id}`)
        .orderBy(websitePageVersions.version),
    audit: (id: number) =>
      db
        .select()
        .from(websiteAuditLogs)
        .where(sql`resource_type = 'page' AND resource_id = ${id}`)
        .orderBy(websiteAuditLogs.id),
    /** The `content.published` events of a page. */
    async events(id: number) {
      const rows = await db
        .select()
        .from(events)
        .where(sql`(body::jsonb -> 'data' ->> 'pageId')::int = ${id}`)
      return rows.map(({ event, siteId, body }) => ({
        event,
        siteId,
        body: JSON.parse(body ?? '') as { data: object },
      }))
    },
    items: (id: number) =>
      db
        .select()
        .from(work)
        .where(sql`job = 'publish-page' AND key = ${String(id)}`)
        .orderBy(work.id),
  }
}

export type Pages = ReturnType<typeof pagesOf>

/** The heart with this job as `start` composes it. */
export async function publishingStack(options: Partial<StackOptions> & { latenesses?: number[] } = {}) {
  const database: TestDatabase = options.database ?? (await createTestDatabase())
  const stack = await createStack({
    backend: 'redis',
    jobs: [{ definition: publishPage, processor: publishPageProcessor }],
    ...options,
    database,
    deps: {
      publishPage: createBatcher({ run: (ids: number[]) => publishPages(database.db, ids) }),
      pagePublished: (seconds: number) => options.latenesses?.push(seconds),
    },
  })
  return { ...stack, pages: pagesOf(database.db) }
}

export type PublishingStack = Awaited<ReturnType<typeof publishingStack>>
