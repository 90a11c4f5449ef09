import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { countDefault, readPartitions } from './months.ts'
import { partitionedTables, type PartitionedTable, publicTable } from './names.ts'
import { type Conversion, readConversion, readPartitioned } from './state.ts'

export interface PartitionStatus {
  table: PartitionedTable
  isPartitioned: boolean
  conversion: Conversion | undefined
  /** Months that have a partition, by their first day, oldest first. */
  months: string[]
  /** Rows of months without one, counted up to 100,000. */
  defaultRows: number
  /** Changes that are noted and not yet carried to the other form. */
  changes: number
}

/** How each table that can be partitioned stands. */
export async function readPartitionStatus(db: Db): Promise<PartitionStatus[]> {
  const partitioned = await readPartitioned(db)
  const statuses: PartitionStatus[] = []
  for (const table of partitionedTables) {
    const isPartitioned = partitioned.includes(table)
    // Primary key of the notes.
    const { rows } = await db.execute(
      sql`SELECT count(*)::int AS changes FROM website_worker.partition_changes WHERE table_name = ${table}`,
    )
    statuses.push({
      table,
      isPartitioned,
      conversion: await readConversion(db, table),
      months: isPartitioned ? [...(await readPartitions(db, publicTable(table))).keys()] : [],
      defaultRows: isPartitioned ? await countDefault(db, table) : 0,
      changes: rows[0]!.changes as number,
    })
  }
  return statuses
}
