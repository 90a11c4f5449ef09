import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import type { RollupSite } from './site.ts'
import { markRange } from './take.ts'

/** A span of time that someone asks for: instants, or days of the site, the last of them included. */
export interface AskedRange {
  from?: string | undefined
  to?: string | undefined
}

/** Instants as Postgres writes them. */
export interface Range {
  from: string
  to: string
  /** Hours that were to be computed again when it began. */
  hours: number
}

const isDay = (text: string) => /^\d{4}-\d{2}-\d{2}$/.test(text)

/** Marks the hours of a range, once for a work item. */
export async function beginRange(tx: Tx, workId: number, site: RollupSite, asked: AskedRange): Promise<Range> {
  const { zone } = site
  const at = (text: string | undefined, open: string, add: number) =>
    text === undefined
      ? sql`${open}::timestamptz`
      : isDay(text)
        ? sql`website_worker.instant_of((${text}::date + ${add}::int)::timestamp, ${zone})`
        : sql`${text}::timestamptz`
  // rollup_ranges_pkey.
  const { rows } = await tx.execute(
    sql`SELECT (${at(asked.from, '-infinity', 0)})::text AS from, (${at(asked.to, 'infinity', 1)})::text AS to,
          (SELECT hours FROM website_worker.rollup_ranges WHERE work_id = ${workId}) AS hours`,
  )
  const { from, to, hours } = rows[0] as { from: string; to: string; hours: number | null }
  if (hours !== null) return { from, to, hours }
  const marked = await markRange(tx, site, { from, to })
  // As above.
  await tx.execute(sql`INSERT INTO website_worker.rollup_ranges (work_id, hours) VALUES (${workId}, ${marked})`)
  return { from, to, hours: marked }
}

/** Hours of a range that are still to be computed, however often each is in the log. */
export async function countLeft(tx: Tx, siteId: number, { from, to }: Range): Promise<number> {
  // analytics_dirty_pkey.
  const { rows } = await tx.execute(
    sql`SELECT count(DISTINCT (d.kind, d.hour))::int AS n FROM website_worker.analytics_dirty d
        WHERE d.site_id = ${siteId} AND d.hour >= date_trunc('hour', ${from}::timestamptz, 'UTC') AND d.hour < ${to}::timestamptz`,
  )
  return rows[0]!.n as number
}

/** Forgets the ranges of work items that ended, or are gone. */
export async function endRanges(tx: Tx, workIds: readonly number[]): Promise<void> {
  // rollup_ranges_pkey; a handful of rows; work_pkey.
  await tx.execute(
    sql`DELETE FROM website_worker.rollup_ranges r
        WHERE r.work_id = ANY (${sql.param(workIds)}::bigint[])
          OR NOT EXISTS (SELECT FROM website_worker.work w WHERE w.id = r.work_id)`,
  )
}
