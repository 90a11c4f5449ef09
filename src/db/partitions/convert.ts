import { sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import type { Db } from '../client.ts'
import { type DdlOptions, whileLocked } from '../ddl.ts'
import { catchUp, compare, type CopyOptions, readRoute } from './copy.ts'
import { settleForeignKeys } from './foreign-keys.ts'
import { keptOf, type PartitionedTable, publicTable, twinOf } from './names.ts'
import { refusals } from './refusals.ts'
import { readConversion, readPartitioned, run } from './state.ts'
import { heldWaitMs, swap } from './swap.ts'
import { dropTwin, makeTwin, monthsNeeded, stopNoting } from './twin.ts'

export type ConvertOptions = DdlOptions & CopyOptions

/**
 * Converts a table to monthly partitions while the main app goes on: copies it in batches, compares every row, and swaps.
 * Goes on where an earlier run was stopped. `done`: there was nothing left to do. @throws AppError naming what stands in its way
 */
export async function enablePartitions(
  db: Db,
  table: PartitionedTable,
  options: ConvertOptions = {},
): Promise<'converted' | 'done'> {
  const conversion = await readConversion(db, table)
  if (conversion?.phase === 'swapped') {
    if (conversion.foreignKeys.length === 0) return 'done'
    await settleForeignKeys(db, table, options)
    return 'converted'
  }
  if (conversion?.phase === 'reverted') {
    throw new AppError('conflict', `${table} is being taken back: website-worker partition revert, then begin anew`)
  }
  if ((await readPartitioned(db)).includes(table)) return 'done'
  const reasons = await refusals(db, table)
  if (reasons.length > 0) throw new AppError('conflict', `${table} can't be partitioned:\n  ${reasons.join('\n  ')}`)
  if (!conversion) {
    const months = await monthsNeeded(db, table)
    await whileLocked(`${table}: preparing`, { attempts: 20, ...options }, () =>
      db.transaction(async (tx) => {
        await run(tx, `SET LOCAL lock_timeout = ${options.lockTimeoutMs ?? 2_000}`)
        await makeTwin(tx, table, months)
      }),
    )
  }
  const route = await readRoute(db, table, publicTable(table), twinOf(table))
  await catchUp(db, route, options)
  await run(db, `ANALYZE ${twinOf(table)}`)
  await swap(db, table, 'partitions', options)
  await settleForeignKeys(db, table, options)
  return 'converted'
}

/** Takes a conversion back, half done or swapped: the plain table is in its place again, with everything written since. */
export async function revertPartitions(db: Db, table: PartitionedTable, options: ConvertOptions = {}): Promise<void> {
  const conversion = await readConversion(db, table)
  if (!conversion) {
    const isPartitioned = (await readPartitioned(db)).includes(table)
    const message = isPartitioned
      ? `The conversion of ${table} is finished: there is no plain table to go back to`
      : `${table} is not being converted`
    throw new AppError('conflict', message)
  }
  if (conversion.phase === 'swapped') await swap(db, table, 'plain', options)
  await settleForeignKeys(db, table, options)
  await whileLocked(`${table}: taking back`, { attempts: 20, ...options }, () =>
    db.transaction(async (tx) => {
      await run(tx, `SET LOCAL lock_timeout = ${options.lockTimeoutMs ?? 2_000}`)
      await stopNoting(tx, table)
      await dropTwin(tx, table)
      await forgetConversion(tx, table)
    }),
  )
}

/** Drops the plain table that was kept, once both forms were compared again. From here on there is no way back. */
export async function finishPartitions(db: Db, table: PartitionedTable, options: ConvertOptions = {}): Promise<void> {
  const conversion = await readConversion(db, table)
  if (conversion?.phase !== 'swapped' || conversion.foreignKeys.length > 0) {
    const message =
      (await readPartitioned(db)).includes(table) && !conversion
        ? `The conversion of ${table} is finished`
        : `${table} is not converted yet: website-worker partition enable`
    throw new AppError('conflict', message)
  }
  const route = await readRoute(db, table, publicTable(table), keptOf(table))
  await catchUp(db, route, options)
  await compare(db, route, options)
  await whileLocked(`${table}: finishing`, { attempts: 20, ...options }, () =>
    db.transaction(async (tx) => {
      await run(tx, `SET LOCAL lock_timeout = ${options.lockTimeoutMs ?? 2_000}`)
      // Dropping a trigger would lock the partitions first: a deadlock for who has written to one and goes on to another.
      await run(tx, `LOCK TABLE ONLY ${publicTable(table)} IN ACCESS EXCLUSIVE MODE`)
      await run(tx, `SET LOCAL lock_timeout = ${heldWaitMs}`)
      await stopNoting(tx, table)
      await run(tx, `DROP TABLE ${keptOf(table)}`)
      await forgetConversion(tx, table)
    }),
  )
}

async function forgetConversion(tx: Pick<Db, 'execute'>, table: PartitionedTable): Promise<void> {
  // Primary keys.
  await tx.execute(sql`DELETE FROM website_worker.partitioning WHERE table_name = ${table}`)
  await tx.execute(sql`DELETE FROM website_worker.partition_changes WHERE table_name = ${table}`)
}
