import { sql } from 'drizzle-orm'
import { madeByUs } from '../additions.ts'
import type { Db, Tx } from '../client.ts'
import { quoteLiteral } from '../triggers.ts'
import { partitioning } from '../schema/partitions.ts'
import { addPartition, makeSchema, monthsOf, monthsToPremake, readLike } from './months.ts'
import { changeTrigger, type PartitionedTable, partitionSchema, publicTable, twinOf } from './names.ts'
import { firstId, run } from './state.ts'

/** Makes the empty partitioned form and begins to note what the main app writes. Holds up writers for a moment only. */
export async function makeTwin(tx: Tx, table: PartitionedTable, months: readonly string[]): Promise<void> {
  const source = publicTable(table)
  const twin = twinOf(table)
  const like = await readLike(tx, source)
  for (const statement of makeSchema(like.owner)) await run(tx, statement)
  await run(tx, `DROP TABLE IF EXISTS ${twin} CASCADE`)
  await run(
    tx,
    `CREATE TABLE ${twin} (LIKE ${source} INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY) PARTITION BY RANGE (created_at)`,
  )
  await run(tx, `ALTER TABLE ${twin} OWNER TO ${like.owner}`)
  for (const statement of await readIndexStatements(tx, source, twin)) await run(tx, statement)
  for (const month of ['default', ...months]) await addPartition(tx, table, twin, month, like)
  await tx
    .insert(partitioning)
    .values({ tableName: table, phase: 'copying', copiedThrough: firstId, verifiedThrough: firstId })
  // Last: from here on writers wait until this is committed. Whoever wrote before has ended by then, and is copied.
  await noteChanges(tx, table)
}

/** Months that need a partition now: those with rows, the current one, and those ahead. */
export async function monthsNeeded(db: Db, table: PartitionedTable): Promise<string[]> {
  const months = [...(await monthsOf(db, publicTable(table))), ...(await monthsToPremake(db))]
  return [...new Set(months)].toSorted()
}

/** Begins to note what is written to a table in `public`, also by those who replicate. */
export async function noteChanges(tx: Tx, table: PartitionedTable): Promise<void> {
  const relation = publicTable(table)
  const triggers = [
    [changeTrigger, 'AFTER INSERT OR UPDATE OR DELETE', 'ROW'],
    [`${changeTrigger}_emptied`, 'AFTER TRUNCATE', 'STATEMENT'],
  ]
  for (const [name, events, level] of triggers) {
    await run(
      tx,
      `CREATE TRIGGER ${name} ${events} ON ${relation} FOR EACH ${level}
       EXECUTE FUNCTION website_worker.note_partition_change('${table}')`,
    )
    await run(tx, `ALTER TABLE ${relation} ENABLE ALWAYS TRIGGER ${name}`)
    await run(tx, `COMMENT ON TRIGGER ${name} ON ${relation} IS '${madeByUs}'`)
  }
}

/** Stops noting. */
export async function stopNoting(tx: Tx, table: PartitionedTable): Promise<void> {
  for (const name of [changeTrigger, `${changeTrigger}_emptied`]) {
    await run(tx, `DROP TRIGGER IF EXISTS ${name} ON ${publicTable(table)}`)
  }
}

/** Removes what the partitioned form left, and the schema with it when nothing else lies there. */
export async function dropTwin(tx: Tx, table: PartitionedTable): Promise<void> {
  await run(tx, `DROP TABLE IF EXISTS ${twinOf(table)} CASCADE`)
  const { rows } = await tx.execute(sql`
    SELECT FROM pg_class WHERE relnamespace = to_regnamespace(${partitionSchema}) LIMIT 1`)
  if (rows.length === 0) await run(tx, `DROP SCHEMA IF EXISTS ${partitionSchema}`)
}

// The primary key gains created_at; every other index and comment is as it was, by name.
async function readIndexStatements(tx: Tx, source: string, twin: string): Promise<string[]> {
  const { rows } = await tx.execute<{ name: string; definition: string; primary: boolean; comment: string | null }>(sql`
    SELECT quote_ident(i.relname) AS name, pg_get_indexdef(i.oid) AS definition, x.indisprimary AS primary,
      obj_description(i.oid, 'pg_class') AS comment
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = ${source}::regclass AND x.indisvalid ORDER BY i.oid`)
  const { rows: table } = await tx.execute<{ comment: string | null }>(
    sql`SELECT obj_description(${source}::regclass, 'pg_class') AS comment`,
  )
  const comment = table[0]?.comment ?? null
  return [
    ...rows.flatMap(({ name, definition, primary, comment }) => [
      primary
        ? `ALTER TABLE ${twin} ADD CONSTRAINT ${name} PRIMARY KEY (id, created_at)`
        : definition.replace(` ON ${source} `, ` ON ${twin} `),
      ...(comment === null ? [] : [`COMMENT ON INDEX ${partitionSchema}.${name} IS${quoteLiteral(comment)}`]),
    ]),
    ...(comment === null ? [] : [`COMMENT ON TABLE ${twin} IS${quoteLiteral(comment)}`]),
  ]
}
