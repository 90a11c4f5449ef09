import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { type PartitionedTable, publicTable } from './names.ts'

/**
 * Why a table can't be converted as it stands, each with what to do: what would go on working on the plain table (views,
 * foreign keys of others), or what a partitioned table can't have. Changes nothing.
 */
export async function refusals(db: Db, table: PartitionedTable): Promise<string[]> {
  const relation = publicTable(table)
  const reasons = [...(await dependents(db, relation)), ...(await unfit(db, relation))]
  // idx_<table>_created_at.
  const { rows } = await db.execute(
    sql`SELECT count(*)::int AS rows FROM ${sql.raw(relation)} WHERE created_at IS NULL`,
  )
  const without = rows[0]!.rows as number
  if (without > 0) {
    reasons.push(
      `${without} rows have no created_at, and a partitioned table can keep none without: give them one, ` +
        `UPDATE ${table} SET created_at = '1970-01-01' WHERE created_at IS NULL, and let nothing write NULL there`,
    )
  }
  return reasons
}

// Views, foreign keys, functions and columns of the table's row type are bound to the table itself, not to its name.
async function dependents(db: Db, relation: string): Promise<string[]> {
  const { rows } = await db.execute<{ what: string }>(sql`
    SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) AS what
    FROM pg_class c
    JOIN pg_type y ON y.oid = c.reltype
    JOIN pg_depend d ON d.deptype = 'n' AND ((d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
      OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (y.oid, y.typarray)))
    WHERE c.oid = ${relation}::regclass
      AND NOT EXISTS (SELECT FROM pg_policy p WHERE d.classid = 'pg_policy'::regclass AND p.oid = d.objid AND p.polrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_trigger g WHERE d.classid = 'pg_trigger'::regclass AND g.oid = d.objid AND g.tgrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_constraint k
                      WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.conrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_attrdef a WHERE d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid AND a.adrelid = c.oid)
    ORDER BY what`)
  return rows.map(({ what }) => `${what} relies on the plain table: drop it, and make it again afterwards`)
}

async function unfit(db: Db, relation: string): Promise<string[]> {
  const { rows } = await db.execute<{ reason: string }>(sql`
    SELECT format('%s is no plain table', c.relname) AS reason FROM pg_class c
    WHERE c.oid = ${relation}::regclass AND (c.relkind <> 'r' OR c.relpersistence <> 'p')
    UNION ALL
    SELECT format('%s is %s: it has to be %s', a.attname, format_type(a.atttypid, a.atttypmod), w.type)
    FROM (VALUES ('id', 'integer'), ('created_at', 'timestamp without time zone')) AS w (name, type)
    JOIN pg_attribute a ON a.attrelid = ${relation}::regclass AND a.attname = w.name
    WHERE format_type(a.atttypid, NULL) <> w.type OR a.attidentity <> ''
    UNION ALL
    SELECT format('%s inherits, or is inherited from', ${relation}::text)
    WHERE EXISTS (SELECT FROM pg_inherits WHERE ${relation}::regclass IN (inhrelid, inhparent))
    UNION ALL
    SELECT format('unique index %s lacks created_at, which each unique key of a partitioned table needs: drop it',
      x.indexrelid::regclass)
    FROM pg_index x
    WHERE x.indrelid = ${relation}::regclass AND (x.indisunique OR x.indisexclusion) AND NOT x.indisprimary
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = x.indrelid AND a.attname = 'created_at'
                        AND a.attnum = ANY (x.indkey) AND NOT x.indisexclusion)
    UNION ALL
    SELECT format('foreign key %I was never validated: ALTER TABLE %s VALIDATE CONSTRAINT %I', conname, conrelid::regclass,
      conname)
    FROM pg_constraint WHERE conrelid = ${relation}::regclass AND contype = 'f' AND NOT convalidated
    UNION ALL
    SELECT format('rule %I can''t be carried over: drop it', rulename) FROM pg_rules
    WHERE format('%I.%I', schemaname, tablename) = ${relation}
    UNION ALL
    SELECT format('publication %I publishes it: take it out, and afterwards publish it with publish_via_partition_root',
      pubname)
    FROM pg_publication_tables WHERE format('%I.%I', schemaname, tablename) = ${relation}
    UNION ALL
    SELECT format('trigger %I can''t be on partitions: a trigger for each row has no transition tables there', tgname)
    FROM pg_trigger
    WHERE tgrelid = ${relation}::regclass AND tgtype & 1 = 1 AND (tgoldtable IS NOT NULL OR tgnewtable IS NOT NULL)`)
  return rows.map((row) => row.reason)
}
