import { sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import type { Db, Tx } from '../client.ts'
import { type DdlOptions, whileLocked } from '../ddl.ts'
import { assertAlike } from './alike.ts'
import { type Carried, readCarried, readRevokes } from './carried.ts'
import { carryChanges, catchUp, compare, type CopyOptions, inTransaction, readRoute } from './copy.ts'
import { readPartitions } from './months.ts'
import { defaultOf, keptOf, type PartitionedTable, publicTable, twinOf } from './names.ts'
import { firstId, lastId, readConversion, run, updateConversion } from './state.ts'
import { noteChanges, stopNoting } from './twin.ts'

/**
 * How long a change may wait for a table, e.g. one that foreign keys lead to, while it holds others: less, in sum, than the second
 * after which Postgres looks for a deadlock, so that it is this and never the main app that gives way.
 */
export const heldWaitMs = 200

/**
 * Puts the other form of a table in its place: partitions for the plain table, or back. In one transaction, with no one
 * writing: carries over the last changes, and moves triggers, policies, grants, foreign keys and the sequence. From its
 * end on what is written is noted for the form that went.
 */
export async function swap(
  db: Db,
  table: PartitionedTable,
  to: 'partitions' | 'plain',
  options: DdlOptions & CopyOptions = {},
): Promise<void> {
  const source = publicTable(table)
  const [target, away] = to === 'partitions' ? [twinOf(table), keptOf(table)] : [keptOf(table), twinOf(table)]
  const lockTimeoutMs = options.lockTimeoutMs ?? 2_000
  await whileLocked(`${table}: swapping`, { attempts: 20, ...options }, async () => {
    const before = await readRoute(db, table, source, target)
    await catchUp(db, before, options)
    await compare(db, before, options)
    await catchUp(db, before, options)
    await inTransaction(db, async (tx) => {
      await run(tx, `SET LOCAL lock_timeout = ${lockTimeoutMs}`)
      await run(tx, `LOCK TABLE ${source} IN ACCESS EXCLUSIVE MODE`)
      await run(tx, `SET LOCAL lock_timeout = ${heldWaitMs}`)
      const route = await readRoute(tx, table, source, target)
      await assertAlike(tx, table, source, target)
      while ((await carryChanges(tx, route, 5_000)) > 0);
      if ((await readConversion(tx, table))?.copiedThrough !== lastId) {
        throw new AppError('unavailable', `${table} was emptied just now; run this again`)
      }
      const carried = await readCarried(tx, source)
      const pending = (await readConversion(tx, table))?.foreignKeys ?? []
      const foreignKeys = pending.length > 0 ? pending : carried.foreignKeys
      await lockReferenced(tx, table, carried)
      await stopNoting(tx, table)
      for (const statement of carried.remove) await run(tx, statement)
      for (const { name } of carried.foreignKeys) await run(tx, `ALTER TABLE ${source} DROP CONSTRAINT ${name}`)
      // Left on the form that goes, they would keep the main app from deleting what only its old rows refer to.
      for (const holder of pending.length > 0 ? await leavesOf(tx, table) : []) {
        for (const { name } of pending) await run(tx, `ALTER TABLE ${holder} DROP CONSTRAINT IF EXISTS ${name}`)
      }
      for (const statement of await readRevokes(tx, target)) await run(tx, statement)
      await changePlaces(tx, source, target, away)
      for (const statement of carried.make) await run(tx, statement)
      const holders = to === 'plain' ? [source] : await leavesOf(tx, table)
      for (const holder of holders) {
        for (const { name, definition } of foreignKeys) {
          await run(tx, `ALTER TABLE ${holder} ADD CONSTRAINT ${name} ${definition} NOT VALID`)
        }
      }
      if (to === 'plain') return updateConversion(tx, table, { phase: 'reverted' })
      await noteChanges(tx, table)
      await updateConversion(tx, table, {
        phase: 'swapped',
        swappedAt: sql`now()` as unknown as Date,
        foreignKeys,
        verifiedThrough: firstId,
      })
    })
  })
}

async function lockReferenced(tx: Tx, table: PartitionedTable, { referenced }: Carried): Promise<void> {
  // Foreign keys that no parent has yet lead where those of the plain table did.
  const pending = await tx.execute<{ name: string }>(sql`
    SELECT DISTINCT format('%I.%I', n.nspname, r.relname) AS name
    FROM pg_inherits i JOIN pg_constraint k ON k.conrelid = i.inhrelid AND k.contype = 'f'
    JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE i.inhparent = ${publicTable(table)}::regclass ORDER BY 1`)
  const names = new Set([...referenced, ...pending.rows.map((row) => row.name)])
  for (const name of [...names].toSorted()) await run(tx, `LOCK TABLE ${name} IN ACCESS EXCLUSIVE MODE`)
}

// Schemas take a table's indexes along, but the sequence must stay where its name is known.
async function changePlaces(tx: Tx, source: string, target: string, away: string): Promise<void> {
  const { rows } = await tx.execute<{ sequence: string | null }>(
    sql`SELECT pg_get_serial_sequence(${source}, 'id') AS sequence`,
  )
  const sequence = rows[0]?.sequence ?? null
  if (sequence !== null) await run(tx, `ALTER SEQUENCE ${sequence} OWNED BY NONE`)
  await run(tx, `ALTER TABLE ${source} SET SCHEMA ${away.split('.')[0]}`)
  await run(tx, `ALTER TABLE ${target} SET SCHEMA public`)
  if (sequence !== null) await run(tx, `ALTER SEQUENCE ${sequence} OWNED BY ${source}.id`)
}

const leavesOf = async (tx: Tx, table: PartitionedTable) => [
  defaultOf(table),
  ...(await readPartitions(tx, publicTable(table))).values(),
]
