import { sql } from 'drizzle-orm'
import { pino } from 'pino'
import type { Db } from '../../../src/db/client.ts'
import { rollUpAnalyticsProcessor, type RollupSettings } from '../../../src/processors/roll-up-analytics.ts'
import type { RollUpAnalyticsPayload } from '../../../src/queues/roll-up-analytics.ts'

export interface PageviewValues {
  siteId?: number | null
  at?: string | null
  url?: string
  session?: string | null
  agent?: string | null
  referrer?: string | null
  pageId?: number | null
  source?: string | null
}

/** Writes pageviews as given, each as one statement; times are UTC. */
export async function view(db: Db, siteId: number, ...views: PageviewValues[]): Promise<number[]> {
  const ids: number[] = []
  for (const { at = '2026-03-01 12:00', url = '/', session = 's', agent = null, referrer = null, ...more } of views) {
    const { rows } = await db.execute(
      sql`INSERT INTO website_pageviews (site_id, page_id, page_url, session_id, user_agent, referrer, utm_source, created_at)
          VALUES (${more.siteId === undefined ? siteId : more.siteId}, ${more.pageId ?? null}, ${url}, ${session}, ${agent},
            ${referrer}, ${more.source ?? null}, ${at}::timestamp) RETURNING id`,
    )
    ids.push(rows[0]!.id as number)
  }
  return ids
}

let workId = 0

/** Rolls a site up, as a work item of its own would. */
export function rollUp(db: Db, payload: RollUpAnalyticsPayload, settings: Partial<RollupSettings> = {}) {
  const context = {
    workId: ++workId,
    attempt: 1,
    trigger: 'request',
    lane: null,
    loaded: undefined,
    log: pino({ level: 'silent' }),
    signal: new AbortController().signal,
    progress: () => {},
  }
  return rollUpAnalyticsProcessor.process(payload, { rollups: { db, ...settings } }, context)
}

/** The only row of a query of one column. */
export async function one<T>(db: Db, statement: ReturnType<typeof sql>): Promise<T> {
  const { rows } = await db.execute(statement)
  return Object.values(rows[0]!)[0] as T
}
