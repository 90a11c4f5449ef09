import { sql } from 'drizzle-orm'
import { AppError } from '../errors.ts'
import { createIndexStatement, ledgerIndexName, madeByUs, sharedIndexes, type SharedIndex } from './additions.ts'
import type { Db } from './client.ts'
import { type DdlOptions, runDdl, whileLocked } from './ddl.ts'
import { buildOnPartitions } from './partitions/indexes.ts'
import { pgErrorOf } from './queries/pg-error.ts'
import { installation } from './schema/index.ts'

export interface IndexOptions extends DdlOptions {
  /** Build on large tables too, with CONCURRENTLY: writers go on, no transaction. Default: false. */
  online?: boolean
  /** Rows from which a table is large. Default: 100,000. */
  largeTableRows?: number
  report?: (line: string) => void
}

/** An index of a shared table as it stands. */
export interface IndexState {
  name: string
  table: string
  definition: string
  valid: boolean
  comment: string | null
}

/** Every index of the shared tables, by name. */
export async function readIndexes(db: Db): Promise<Map<string, IndexState>> {
  const { rows } = await db.execute<IndexState & Record<string, unknown>>(sql`
    SELECT i.relname AS name, t.relname AS table, replace(pg_get_indexdef(x.indexrelid), ' ON ONLY ', ' ON ') AS definition,
           x.indisvalid AND x.indisready AS valid, obj_description(x.indexrelid, 'pg_class') AS comment
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class t ON t.oid = x.indrelid
    WHERE t.relnamespace = 'public'::regnamespace AND t.relname ~ '^website_'
  `)
  return new Map(rows.map((row) => [row.name, row]))
}

// As the planner does: reltuples is stale or -1 until the first ANALYZE, the file's size is always true.
async function readRowEstimates(db: Db): Promise<Map<string, number>> {
  const { rows } = await db.execute<{ name: string; estimate: number }>(sql`
    SELECT t.relname AS name,
           sum(CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages ELSE 100 END
             * pg_relation_size(c.oid) / current_setting('block_size')::int)::float8 AS estimate
    FROM pg_class t
    JOIN pg_class c ON c.oid = t.oid OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = t.oid)
    WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND t.relname ~ '^website_'
    GROUP BY t.oid, t.relname
  `)
  return new Map(rows.map((row) => [row.name, row.estimate]))
}

/** Id up to which ledger rows are the main app's own; 0 while nothing is installed. */
export async function readDeliveryWatermark(db: Db): Promise<number> {
  const { rows } = await db.execute<{ known: boolean }>(
    sql`SELECT to_regclass('website_worker.installation') IS NOT NULL AS known`,
  )
  if (!rows[0]?.known) return 0
  const [row] = await db.select({ watermark: installation.deliveryWatermark }).from(installation)
  return row?.watermark ?? 0
}

/**
 * Makes the indexes that are missing, table by table, and remakes those an interrupted build left invalid.
 * Without `online`, those of large tables are left and named.
 */
export async function ensureIndexes(
  db: Db,
  options: IndexOptions = {},
): Promise<{ built: string[]; deferred: string[] }> {
  const report = options.report ?? (() => {})
  const [existing, estimates, watermark] = [
    await readIndexes(db),
    await readRowEstimates(db),
    await readDeliveryWatermark(db),
  ]
  const missing = sharedIndexes(watermark).filter((index) => !existing.get(index.name)?.valid)
  const built: string[] = []
  const deferred: string[] = []
  for (const table of new Set(missing.map((index) => index.table))) {
    const indexes = missing.filter((index) => index.table === table)
    const rows = Math.round(estimates.get(table) ?? 0)
    if (rows > (options.largeTableRows ?? 100_000) && !options.online) {
      deferred.push(...indexes.map((index) => index.name))
      for (const { name } of indexes) {
        report(`left ${name} for \`website-worker migrate --online\`: ${table} has about ${rows} rows`)
      }
      continue
    }
    if (options.online) {
      for (const index of indexes) await buildOnline(db, index, existing.has(index.name), options)
    } else {
      await explainDuplicates(watermark, () =>
        runDdl(
          db,
          `indexes of ${table}`,
          indexes.flatMap((index) => [
            ...(existing.has(index.name) ? [`DROP INDEX public.${index.name}`] : []),
            createIndexStatement(index),
            ...mark(index),
          ]),
          options,
        ),
      )
    }
    built.push(...indexes.map((index) => index.name))
    report(`built on ${table}: ${indexes.map((index) => index.name).join(', ')}`)
  }
  return { built, deferred }
}

const mark = (index: SharedIndex) => (index.inSpec ? [] : [`COMMENT ON INDEX public.${index.name} IS '${madeByUs}'`])

// The lock timeout doubles per try: waiting here blocks no writer, and CONCURRENTLY must outwait old transactions.
async function buildOnline(db: Db, index: SharedIndex, leftover: boolean, options: IndexOptions): Promise<void> {
  let invalid = leftover
  await explainDuplicates(await readDeliveryWatermark(db), () =>
    whileLocked(`index ${index.name}`, options, async (attempt) => {
      await db.execute(sql.raw(`SET lock_timeout = ${(options.lockTimeoutMs ?? 2_000) * 2 ** (attempt - 1)}`))
      options.report?.(`building ${index.name} on ${index.table}, try ${attempt}`)
      try {
        if (await buildOnPartitions(db, index)) return
        if (invalid) {
          options.report?.(`dropping ${index.name}: an earlier build left it invalid`)
          await db.execute(sql.raw(`DROP INDEX CONCURRENTLY IF EXISTS public.${index.name}`))
        }
        invalid = true
        await db.execute(sql.raw(createIndexStatement(index, true)))
      } finally {
        await db.execute(sql`RESET lock_timeout`)
      }
    }),
  )
  await runDdl(db, `index ${index.name}`, mark(index), options)
}

async function explainDuplicates(watermark: number, build: () => Promise<void>): Promise<void> {
  try {
    await build()
  } catch (error) {
    if (pgErrorOf(error)?.code !== '23505') throw error
    throw new AppError(
      'conflict',
      `${ledgerIndexName}: website_webhook_deliveries has several rows for one webhook and event above id ${watermark}; ` +
        'if the main app wrote them, raise delivery_watermark in website_worker.installation past them and run this again',
      { cause: error },
    )
  }
}
