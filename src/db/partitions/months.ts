import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'
import { defaultOf, type PartitionedTable, partitionOf, partitionSchema } from './names.ts'
import { run } from './state.ts'

/** Months that have a partition before their first row comes: the current one and those after it. */
export const monthsAhead = 3

/** First days of the months, in UTC, that rows were made in; far-off ones are left to the default partition. */
export async function monthsOf(db: Db | Tx, relation: string): Promise<string[]> {
  const first = (from: string) => sql`
    (SELECT date_trunc('month', created_at) FROM ${sql.raw(relation)}
     WHERE created_at >= ${sql.raw(from)} AND created_at < (now() AT TIME ZONE 'UTC') + interval '10 years'
     ORDER BY created_at LIMIT 1)`
  // idx_<table>_created_at, one probe a month.
  const { rows } = await db.execute<{ month: string }>(sql`
    WITH RECURSIVE months (month) AS (
      SELECT ${first(`timestamp '1970-01-01'`)}
      UNION ALL
      SELECT ${first(`m.month + interval '1 month'`)} FROM months m WHERE m.month IS NOT NULL)
    SELECT to_char(month, 'YYYY-MM-DD') AS month FROM months WHERE month IS NOT NULL ORDER BY 1`)
  return rows.map((row) => row.month)
}

/** First days of the current month and those ahead, in UTC. */
export async function monthsToPremake(db: Db | Tx): Promise<string[]> {
  const { rows } = await db.execute<{ month: string }>(sql`
    SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYY-MM-DD') AS month
    FROM generate_series(0, ${monthsAhead}::int) AS n ORDER BY n`)
  return rows.map((row) => row.month)
}

/** The partitions a table has, but the default one, by the month each is of. */
export async function readPartitions(db: Db | Tx, relation: string): Promise<Map<string, string>> {
  const { rows } = await db.execute<{ name: string; month: string }>(sql`
    SELECT i.inhrelid::regclass::text AS name, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM .''(.{10})') AS month
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = ${relation}::regclass AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT' ORDER BY 2`)
  return new Map(rows.map((row) => [row.month, row.name]))
}

export interface PartitionLike {
  /** Storage options for partitions, e.g. `fillfactor=90`. Default: none. */
  options?: string | undefined
  owner: string
}

/** What a new partition of a table has to be like. */
export async function readLike(db: Db | Tx, relation: string): Promise<PartitionLike> {
  const { rows } = await db.execute(sql`
    SELECT array_to_string(coalesce(c.reloptions, d.reloptions), ', ') AS options,
      quote_ident(pg_get_userbyid(c.relowner)) AS owner
    FROM pg_class c
    LEFT JOIN pg_inherits i ON i.inhparent = c.oid
    LEFT JOIN pg_class d ON d.oid = i.inhrelid
    WHERE c.oid = ${relation}::regclass ORDER BY d.oid DESC LIMIT 1`)
  const { options, owner } = rows[0] as { options: string | null; owner: string }
  return { owner, options: options || undefined }
}

/** Makes a partition and attaches it, which blocks no one who reads or writes the others. `month`: a first day, or the rest. */
export async function addPartition(
  tx: Tx,
  table: PartitionedTable,
  relation: string,
  month: string | 'default',
  { options, owner }: PartitionLike,
  fill: (partition: string) => Promise<void> = async () => {},
): Promise<void> {
  const name = month === 'default' ? defaultOf(table) : partitionOf(table, month)
  const bounds = month === 'default' ? 'DEFAULT' : `FOR VALUES FROM ('${month}') TO ('${nextMonth(month)}')`
  const like = `(LIKE ${relation} INCLUDING ALL EXCLUDING COMMENTS EXCLUDING STATISTICS)`
  await run(tx, `CREATE TABLE ${name} ${like}${options ? ` WITH (${options})` : ''}`)
  await fill(name)
  await run(tx, `ALTER TABLE ${name} OWNER TO ${owner}`)
  await run(tx, `ALTER TABLE ${relation} ATTACH PARTITION ${name} ${bounds}`)
}

/** The first day of the month after. */
export function nextMonth(month: string): string {
  const [year = 0, number = 0] = month.split('-').map(Number)
  return number === 12
    ? `${year + 1}-01-01`
    : `${String(year).padStart(4, '0')}-${String(number + 1).padStart(2, '0')}-01`
}

/** What makes the partitions' schema, for a table of this owner. */
export const makeSchema = (owner: string) => [
  `CREATE SCHEMA IF NOT EXISTS ${partitionSchema}`,
  `GRANT USAGE, CREATE ON SCHEMA ${partitionSchema} TO ${owner}`,
]

/** Rows of the default partition, counted up to a limit: there should be none. */
export async function countDefault(db: Db | Tx, table: PartitionedTable, limit = 100_000): Promise<number> {
  const { rows } = await db.execute(
    sql`SELECT count(*)::int AS rows FROM (SELECT FROM ${sql.raw(defaultOf(table))} LIMIT ${limit}) AS page`,
  )
  return rows[0]!.rows as number
}
