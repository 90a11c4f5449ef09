import { sql } from 'drizzle-orm'
import { createIndexStatement, type SharedIndex } from '../additions.ts'
import type { Db } from '../client.ts'
import { partitionSchema } from './names.ts'
import { run } from './state.ts'

/**
 * Builds an index of a partitioned table without blocking writers: on the parent alone, then on each partition with
 * CONCURRENTLY, attaching as it goes. Goes on where it was stopped; false where the table isn't partitioned.
 */
export async function buildOnPartitions(db: Db, index: SharedIndex): Promise<boolean> {
  const statement = createIndexStatement(index)
  const { rows } = await db.execute<{ partition: string; built: string | null; valid: boolean; attached: boolean }>(sql`
    SELECT i.inhrelid::regclass::text AS partition, b.indexrelid::regclass::text AS built, coalesce(b.indisvalid, false) AS valid,
      EXISTS (SELECT FROM pg_inherits a WHERE a.inhrelid = b.indexrelid) AS attached
    FROM pg_class t
    JOIN pg_inherits i ON i.inhparent = t.oid
    JOIN pg_class p ON p.oid = i.inhrelid
    LEFT JOIN pg_index b ON b.indrelid = i.inhrelid
      AND b.indexrelid = to_regclass(${`${partitionSchema}.`} || left(p.relname || ${`_${index.name.replace(index.table, '')}`}, 63))
    WHERE t.oid = to_regclass(${`public.${index.table}`}) AND t.relkind = 'p' ORDER BY 1`)
  if (rows.length === 0) return false
  const { rows: parent } = await db.execute(
    sql`SELECT FROM pg_class WHERE oid = to_regclass(${`public.${index.name}`})`,
  )
  if (parent.length === 0) await run(db, statement.replace(' ON ', ' ON ONLY '))
  for (const { partition, built, valid, attached } of rows) {
    if (attached) continue
    const name = `${partition.split('.')[1]}_${index.name.replace(index.table, '')}`.slice(0, 63)
    if (built !== null && !valid) await run(db, `DROP INDEX CONCURRENTLY ${built}`)
    if (built === null || !valid) {
      await run(db, `CREATE INDEX CONCURRENTLY ${name} ON ${partition} ${index.definition}`)
    }
    await run(db, `ALTER INDEX public.${index.name} ATTACH PARTITION ${partitionSchema}.${name}`)
  }
  return true
}
