import { createHash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { transact, type Db } from '../client.ts'
import { nextMonth } from '../partitions/months.ts'
import { firstId } from '../partitions/state.ts'
import type { Line } from './file.ts'

/** The tables whose old rows can be archived. */
export const archivable = ['website_pageviews', 'website_events', 'website_audit_logs'] as const
export type ArchivableTable = (typeof archivable)[number]

const pageRows = 500
/** A page ends with the row that takes it past so many bytes. */
const pageBytes = 4_000_000

const inMonth = (month: string) =>
  sql`t.created_at >= ${month}::timestamp AND t.created_at < ${nextMonth(month)}::timestamp`

/** The rows of a month, UTC, oldest first, a page at a time. */
export async function* rowsOf(
  db: Db,
  table: ArchivableTable,
  month: string,
  signal: AbortSignal,
): AsyncGenerator<Line[]> {
  let after = { at: month, id: firstId }
  for (;;) {
    signal.throwIfAborted()
    // idx_<table>_created_at.
    const { rows } = await db.execute<{ id: number; text: string; at: string }>(sql`
      SELECT id, text, created_at::text AS at FROM (
        SELECT p.*, sum(octet_length(text)) OVER (ORDER BY created_at, id ROWS UNBOUNDED PRECEDING) - octet_length(text) AS before
        FROM (
          SELECT t.id, t.created_at, to_jsonb(t)::text AS text FROM ${sql.raw(`public.${table}`)} AS t
          WHERE ${inMonth(month)} AND t.created_at >= ${after.at}::timestamp
            AND (t.created_at > ${after.at}::timestamp OR t.id > ${after.id}::int)
          ORDER BY t.created_at, t.id LIMIT ${pageRows}) AS p) AS p
      WHERE before < ${pageBytes} ORDER BY created_at, id`)
    const last = rows.at(-1)
    if (!last) return
    yield rows.map(({ id, text }) => ({ id, text }))
    after = last
  }
}

/** Whether a month has rows. */
export async function hasRows(db: Db, table: ArchivableTable, month: string): Promise<boolean> {
  // idx_<table>_created_at.
  const { rows } = await db.execute(sql`SELECT FROM ${sql.raw(`public.${table}`)} AS t WHERE ${inMonth(month)} LIMIT 1`)
  return rows.length > 0
}

// What a line holds is in its hash, its id too: a row that was changed since has another one.
const same = (month: string, lines: readonly Line[]) => sql`
  t.id = ANY (${sql.param(lines.map((line) => line.id))}::int[]) AND ${inMonth(month)}
  AND md5(to_jsonb(t)::text) = ANY (${sql.param(lines.map(({ text }) => createHash('md5').update(text).digest('hex')))}::text[])`

/** How many of these rows are in the table exactly as their lines say. */
export async function countSame(
  db: Db,
  table: ArchivableTable,
  month: string,
  lines: readonly Line[],
): Promise<number> {
  // Primary key.
  const { rows } = await db.execute<{ rows: number }>(
    sql`SELECT count(*)::int AS rows FROM ${sql.raw(`public.${table}`)} AS t WHERE ${same(month, lines)}`,
  )
  return rows[0]!.rows
}

/** Removes those of these rows that are exactly as their lines say; the rollups don't hear of it. Returns how many. */
export function removeSame(db: Db, table: ArchivableTable, month: string, lines: readonly Line[]): Promise<number> {
  return transact(db, async (tx) => {
    await tx.execute(sql`SELECT set_config('website_worker.archiving', 'on', true)`)
    // Primary key.
    const { rowCount } = await tx.execute(
      sql`DELETE FROM ${sql.raw(`public.${table}`)} AS t WHERE ${same(month, lines)}`,
    )
    return rowCount ?? 0
  })
}

/** Foreign keys of others that lead to a table: removing its rows might remove theirs, which no file holds. */
export async function readReferrers(db: Db, table: ArchivableTable): Promise<string[]> {
  const { rows } = await db.execute<{ name: string }>(sql`
    SELECT DISTINCT conrelid::regclass::text AS name FROM pg_constraint
    WHERE confrelid = ${`public.${table}`}::regclass AND contype = 'f' ORDER BY 1`)
  return rows.map((row) => row.name)
}
