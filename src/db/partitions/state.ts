import { eq, sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'
import { partitioning } from '../schema/partitions.ts'
import { partitionedTables, type PartitionedTable } from './names.ts'

/** Below every id, and above. */
export const firstId = -2_147_483_648
export const lastId = 2_147_483_647

/** A conversion that is under way or can still be taken back. */
export type Conversion = typeof partitioning.$inferSelect

/** The conversion of a table; undefined where there is none, or it is finished. */
export async function readConversion(db: Db | Tx, table: PartitionedTable): Promise<Conversion | undefined> {
  // Primary key.
  const [row] = await db.select().from(partitioning).where(eq(partitioning.tableName, table))
  return row
}

/** Changes what is kept of a conversion. */
export async function updateConversion(
  db: Db | Tx,
  table: PartitionedTable,
  change: Partial<typeof partitioning.$inferInsert>,
): Promise<void> {
  await db.update(partitioning).set(change).where(eq(partitioning.tableName, table))
}

/** Which of the tables stand partitioned in `public`. */
export async function readPartitioned(db: Db | Tx): Promise<PartitionedTable[]> {
  const { rows } = await db.execute(sql`
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'p' AND relname IN ${[...partitionedTables]}`)
  return partitionedTables.filter((table) => rows.some((row) => row.name === table))
}

/** Runs a statement that takes no parameters. */
export async function run(db: Db | Tx, statement: string): Promise<void> {
  await db.execute(sql.raw(statement))
}
