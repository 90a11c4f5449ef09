import { sql } from 'drizzle-orm'
import { sharedTables } from '../additions.ts'
import type { Db } from '../client.ts'

/** The share of a table's INTEGER ids that no row has had yet; at 0 no row can be inserted any more. */
export interface IdHeadroom {
  table: string
  headroom: number
}

const serials = sharedTables.filter((table) => table.name.startsWith('website_')).map((table) => table.name)

/** Reads it from the sequences of the shared tables: rows that were rolled back have used an id, too. */
export async function readIdHeadroom(db: Db): Promise<IdHeadroom[]> {
  // The catalogue, and one page of each sequence.
  const { rows } = await db.execute<{ table: string; headroom: number }>(sql`
    SELECT c.relname AS table,
      (1 - coalesce(pg_sequence_last_value(d.objid::regclass), 0)::float8 / least(q.seqmax, 2147483647))::float8 AS headroom
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND a.atttypid = 'int4'::regtype
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
      AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN pg_sequence q ON q.seqrelid = d.objid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN ${serials}
      AND has_sequence_privilege(q.seqrelid, 'USAGE, SELECT')
    ORDER BY c.relname`)
  return rows
}
