import { sql } from 'drizzle-orm'
import { madeByUs, sharedTables, updatedAtFunction } from './additions.ts'
import type { Db } from './client.ts'
import { type DdlOptions, runDdl } from './ddl.ts'
import { partitionSchema } from './partitions/names.ts'
import { quoteLiteral, readUpdatedAtFunction, timezoneSetByUs } from './triggers.ts'

/**
 * Removes everything the worker made, and leaves the shared tables with the spec's indexes and every row.
 * Can be run again after it failed halfway. Stop all workers first. Returns the statements it ran.
 */
export async function uninstall(db: Db, options: DdlOptions = {}): Promise<string[]> {
  const done: string[] = []
  const run = async (statements: string[]) => {
    for (const statement of statements) {
      await runDdl(db, 'uninstall', [statement], options)
      done.push(statement)
    }
  }
  await run(await ourTriggers(db))
  await run(await ourRelations(db))
  await run(await ourFunction(db))
  // Before the schema that knows of them; partitions that the main app works on stay.
  await run(await unfinishedPartitions(db))
  await run(['DROP SCHEMA IF EXISTS website_worker CASCADE', 'DROP SCHEMA IF EXISTS bullmq CASCADE'])
  return done
}

async function ourTriggers(db: Db): Promise<string[]> {
  const { rows } = await db.execute<{ statement: string }>(sql`
    SELECT format('DROP TRIGGER %I ON public.%I', g.tgname, c.relname) AS statement
    FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT g.tgisinternal
      AND obj_description(g.oid, 'pg_trigger') = ${madeByUs}
    ORDER BY c.relname, g.tgname
  `)
  return rows.map((row) => row.statement)
}

// Views before the tables they read, and never a shared table, whatever its comment says.
async function ourRelations(db: Db): Promise<string[]> {
  const { rows } = await db.execute<{ statement: string }>(sql`
    SELECT format('DROP %s public.%I', k.kind, c.relname) AS statement
    FROM pg_class c
    JOIN (VALUES ('v', 1, 'VIEW'), ('r', 2, 'TABLE'), ('p', 2, 'TABLE'), ('i', 3, 'INDEX'), ('I', 3, 'INDEX'))
      AS k (relkind, step, kind) ON k.relkind = c.relkind::text
    WHERE c.relnamespace = 'public'::regnamespace AND obj_description(c.oid, 'pg_class') = ${madeByUs}
      AND c.relname NOT IN ${sharedTables.map((table) => table.name)}
    ORDER BY k.step, c.relname
  `)
  return rows.map((row) => row.statement)
}

// The partitioned form lies in this schema itself only while it is not in its place.
async function unfinishedPartitions(db: Db): Promise<string[]> {
  const { rows } = await db.execute<{ drops: string[]; others: boolean }>(sql`
    SELECT array_agg(format('DROP TABLE %s CASCADE', oid::regclass)) FILTER (WHERE relkind = 'p') AS drops,
      bool_or(relkind = 'r' AND relispartition AND oid IN (
        SELECT i.inhrelid FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
        WHERE p.relnamespace = 'public'::regnamespace)) AS others
    FROM pg_class WHERE relnamespace = to_regnamespace(${partitionSchema})`)
  const { drops, others } = rows[0]!
  if (drops === null) return []
  return [...drops, ...(others ? [] : [`DROP SCHEMA ${partitionSchema}`])]
}

async function ourFunction(db: Db): Promise<string[]> {
  const fn = await readUpdatedAtFunction(db)
  const name = `public.${updatedAtFunction}()`
  if (fn?.comment === madeByUs) return (await hasTriggers(db)) ? [] : [`DROP FUNCTION ${name}`]
  if (!fn?.comment?.endsWith(timezoneSetByUs)) return []
  const before = fn.comment.slice(0, -timezoneSetByUs.length).trimEnd()
  return [
    `ALTER FUNCTION ${name} RESET timezone`,
    `COMMENT ON FUNCTION ${name} IS ${before === '' ? 'NULL' : quoteLiteral(before)}`,
  ]
}

// The main app may have come to rely on the function.
async function hasTriggers(db: Db): Promise<boolean> {
  const { rows } = await db.execute<{ used: boolean }>(sql`
    SELECT EXISTS (
      SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
      WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ${updatedAtFunction}
    ) AS used
  `)
  return rows[0]?.used ?? false
}
