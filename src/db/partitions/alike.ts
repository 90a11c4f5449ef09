import { sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import type { Tx } from '../client.ts'
import { keptOf, type PartitionedTable } from './names.ts'

/** @throws AppError `conflict` naming what of columns, checks or indexes only one form of a table has: a swap would lose it */
export async function assertAlike(tx: Tx, table: PartitionedTable, source: string, target: string): Promise<void> {
  const [there, here] = [await readTraits(tx, source), await readTraits(tx, target)]
  const differing = [
    ...there.filter((trait) => !here.includes(trait)),
    ...here.filter((trait) => !there.includes(trait)),
  ]
  if (differing.length === 0) return
  throw unlike(table, target, differing[0]!)
}

/** What to do when both forms of a table are no longer alike. */
export function unlike(table: PartitionedTable, target: string, what: string): AppError {
  const advice =
    target === keptOf(table)
      ? `make the same change to ${target}, and run this again`
      : 'take it back (website-worker partition revert), and begin anew'
  return new AppError('conflict', `${table} was changed since the conversion began (${what}): ${advice}`)
}

// But for the primary key, and that created_at can't be NULL.
async function readTraits(tx: Tx, relation: string): Promise<string[]> {
  const { rows } = await tx.execute<{ trait: string }>(sql`
    SELECT format('column %I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
      CASE WHEN a.attnotnull AND a.attname <> 'created_at' THEN ' NOT NULL' END, ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)) AS trait
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = ${relation}::regclass AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT format('constraint %I %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE conrelid = ${relation}::regclass AND contype = 'c'
    UNION ALL
    SELECT format('%sindex %I%s', CASE WHEN x.indisunique THEN 'unique ' END, i.relname,
      substring(pg_get_indexdef(i.oid) FROM ' USING .*$'))
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = ${relation}::regclass AND x.indisvalid AND NOT x.indisprimary`)
  return rows.map((row) => row.trait)
}
