import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { type DdlOptions, runDdl, whileLocked } from '../ddl.ts'
import { readForeignKeys } from './carried.ts'
import type { PartitionedTable } from './names.ts'
import { publicTable } from './names.ts'
import { readConversion, run, updateConversion } from './state.ts'

/**
 * Checks foreign keys that came with a swap, table by table, while everyone goes on; then gives them to the parent, which
 * takes over those of its partitions without reading them again. Can be run again.
 */
export async function settleForeignKeys(db: Db, table: PartitionedTable, options: DdlOptions = {}): Promise<void> {
  const relation = publicTable(table)
  const { rows } = await db.execute<{ holder: string; name: string }>(sql`
    SELECT k.conrelid::regclass::text AS holder, quote_ident(k.conname) AS name
    FROM pg_constraint k
    WHERE k.contype = 'f' AND NOT k.convalidated AND (k.conrelid = ${relation}::regclass
      OR k.conrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = ${relation}::regclass))
    ORDER BY 1, 2`)
  for (const { holder, name } of rows) {
    await whileLocked(`${holder}: foreign keys`, options, async () => {
      await run(db, `SET lock_timeout = ${options.lockTimeoutMs ?? 2_000}`)
      await run(db, `ALTER TABLE ${holder} VALIDATE CONSTRAINT ${name}`)
    })
  }
  await run(db, 'RESET lock_timeout')
  const conversion = await readConversion(db, table)
  if (!conversion || conversion.phase !== 'swapped') return
  for (const { name, definition } of conversion.foreignKeys) {
    if ((await readForeignKeys(db, relation)).some((key) => key.name === name)) continue
    const statement = `ALTER TABLE ${relation} ADD CONSTRAINT ${name} ${definition}`
    // It holds this table while it waits for the other: short of the second after which Postgres looks for a deadlock.
    await runDdl(db, `${table}: foreign keys`, [statement], { attempts: 40, ...options, lockTimeoutMs: 200 })
  }
  await updateConversion(db, table, { foreignKeys: [] })
}
