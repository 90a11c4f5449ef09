import { sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import type { Db, Tx } from '../client.ts'
import { pgErrorOf } from '../queries/pg-error.ts'
import { unlike } from './alike.ts'
import type { PartitionedTable } from './names.ts'
import { firstId, lastId, readConversion, run, updateConversion } from './state.ts'

/** From which form of a table to which rows are carried. */
export interface Route {
  table: PartitionedTable
  /** Where the main app writes, and our trigger notes what. */
  source: string
  target: string
  /** The columns of both, as SQL. */
  columns: string
}

/** How far a conversion is: which of its steps, and how much of the table's ids that step has behind it. */
export interface CopyProgress {
  step: 'copied' | 'compared'
  percent: number
}

export interface CopyOptions {
  onProgress?: (progress: CopyProgress) => void
  /** Rows a statement copies. Default: 5,000. */
  batch?: number
}

/** Fewer changes than this are left for the moment in which no one writes. */
const fewChanges = 200

/** A route between two forms. @throws AppError `conflict` when their columns are no longer the same */
export async function readRoute(db: Db | Tx, table: PartitionedTable, source: string, target: string): Promise<Route> {
  const { rows } = await db.execute<{ columns: string; shape: string }>(sql`
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FILTER (WHERE attgenerated = '') AS columns,
      string_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) AS shape
    FROM (VALUES (1, ${source}::text), (2, ${target}::text)) AS r (place, name)
    JOIN pg_attribute ON attrelid = r.name::regclass AND attnum > 0 AND NOT attisdropped
    GROUP BY r.place ORDER BY r.place`)
  if (rows[0]?.shape !== rows[1]?.shape) {
    throw unlike(table, target, 'its columns')
  }
  return { table, source, target, columns: rows[0]!.columns }
}

/** Copies what is not copied yet and carries over what changed since, until almost nothing is left to. */
export async function catchUp(db: Db, route: Route, options: CopyOptions = {}): Promise<void> {
  const batch = options.batch ?? 5_000
  for (;;) {
    const { copiedThrough } = (await readConversion(db, route.table)) ?? { copiedThrough: lastId }
    if (copiedThrough < lastId) {
      await inTransaction(db, (tx) => copyBatch(tx, route, copiedThrough, batch))
      options.onProgress?.({ step: 'copied', percent: await percentOf(db, route, copiedThrough) })
    }
    const carried = await inTransaction(db, (tx) => carryChanges(tx, route, batch))
    if (copiedThrough === lastId && carried < fewChanges) return
  }
}

/** Runs one step, telling in words what a row of the main app's may have that partitions can't take. */
export async function inTransaction<T>(db: Db | Tx, step: (tx: Tx) => Promise<T>): Promise<T> {
  try {
    return await db.transaction(step)
  } catch (error) {
    const { code, message } = pgErrorOf(error) ?? {}
    if (code === '23502' || code === '23505' || code === '23514') {
      throw new AppError('conflict', `A row can't be carried over: ${message}. Change it, and run this again`, {
        cause: error,
      })
    }
    throw error
  }
}

async function copyBatch(tx: Tx, { table, source, target, columns }: Route, after: number, batch: number) {
  // Primary key of the source.
  const { rows } = await tx.execute<{ through: number | null }>(sql`
    SELECT max(id) AS through FROM (
      SELECT id FROM ${sql.raw(source)} WHERE id > ${after} ORDER BY id LIMIT ${batch}) AS page HAVING count(*) = ${batch}`)
  // Nothing noted before this statement is lost by it: it sees what they wrote. What commits later is noted, and carried.
  const through = rows[0]?.through ?? lastId
  await tx.execute(sql`
    INSERT INTO ${sql.raw(target)} (${sql.raw(columns)})
    SELECT ${sql.raw(columns)} FROM ${sql.raw(source)} WHERE id > ${after} AND id <= ${through}`)
  await updateConversion(tx, table, { copiedThrough: through })
}

/** Carries over rows that were noted as changed; returns how many notes that were, `limit` when all is to be copied anew. */
export async function carryChanges(tx: Tx, { table, source, target, columns }: Route, limit: number): Promise<number> {
  // Primary key of the notes.
  const { rows } = await tx.execute<{ seq: string; id: number | null }>(sql`
    SELECT seq::text, id FROM website_worker.partition_changes WHERE table_name = ${table} ORDER BY seq LIMIT ${limit}`)
  if (rows.length === 0) return 0
  const isEmptied = rows.some((row) => row.id === null)
  const { copiedThrough } = (await readConversion(tx, table))!
  if (isEmptied) {
    await run(tx, `TRUNCATE ${target}`)
    await updateConversion(tx, table, { copiedThrough: firstId, verifiedThrough: firstId })
  } else {
    const ids = sql`ANY (${sql.param([...new Set(rows.map((row) => row.id))])}::int[])`
    // Primary keys, on each partition. These statements begin after the notes were read: they see what was noted.
    await tx.execute(sql`DELETE FROM ${sql.raw(target)} WHERE id = ${ids}`)
    await tx.execute(sql`
      INSERT INTO ${sql.raw(target)} (${sql.raw(columns)})
      SELECT ${sql.raw(columns)} FROM ${sql.raw(source)} WHERE id = ${ids} AND id <= ${copiedThrough}`)
  }
  await tx.execute(sql`
    DELETE FROM website_worker.partition_changes
    WHERE table_name = ${table} AND seq = ANY (${sql.param(rows.map((row) => row.seq))}::bigint[])`)
  return isEmptied ? limit : rows.length
}

/**
 * Compares both forms, row by row, but for rows that are noted as changed: in each moment everything else is the same.
 * Goes on where it was. @throws AppError `conflict` when something isn't
 */
export async function compare(db: Db, route: Route, options: CopyOptions = {}): Promise<void> {
  const batch = 4 * (options.batch ?? 5_000)
  for (;;) {
    const { verifiedThrough: after } = (await readConversion(db, route.table))!
    if (after === lastId) return
    const { rows } = await db.execute<{ through: number | null }>(sql`
      SELECT max(id) AS through FROM (
        SELECT id FROM ${sql.raw(route.source)} WHERE id > ${after} ORDER BY id LIMIT ${batch}) AS page
      HAVING count(*) = ${batch}`)
    const through = rows[0]?.through ?? lastId
    if (!(await isSame(db, route, after, through))) {
      throw new AppError(
        'conflict',
        `${route.table}: rows with ids from ${after + 1} to ${through} are not the same in both forms. Were they written ` +
          'with triggers switched off? Nothing was swapped or dropped. Take it back, and begin anew',
      )
    }
    await updateConversion(db, route.table, { verifiedThrough: through })
    options.onProgress?.({ step: 'compared', percent: await percentOf(db, route, through) })
  }
}

async function isSame(db: Db, { table, source, target }: Route, after: number, through: number): Promise<boolean> {
  const sum = (relation: string) => sql`
    SELECT count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) AS hash
    FROM ${sql.raw(relation)} AS t
    WHERE id > ${after} AND id <= ${through} AND id NOT IN (SELECT id FROM noted WHERE id IS NOT NULL)`
  // Primary keys, on each partition; one statement, hence one moment.
  const { rows } = await db.execute<{ same: boolean }>(sql`
    WITH noted AS MATERIALIZED (SELECT id FROM website_worker.partition_changes WHERE table_name = ${table})
    SELECT (SELECT (s.rows, s.hash) FROM (${sum(source)}) AS s) = (SELECT (t.rows, t.hash) FROM (${sum(target)}) AS t)
      OR EXISTS (SELECT FROM noted WHERE id IS NULL) AS same`)
  return rows[0]!.same
}

// By id: counting would read the table.
async function percentOf(db: Db, { source }: Route, through: number): Promise<number> {
  // Primary key.
  const { rows } = await db.execute<{ share: number | null }>(sql`
    SELECT (least(${through}, max(id))::float8 - min(id) + 1) / (max(id)::float8 - min(id) + 1) AS share
    FROM ${sql.raw(source)}`)
  return Math.floor(Math.max(0, Math.min(1, rows[0]?.share ?? 1)) * 100)
}
