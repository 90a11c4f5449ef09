import { sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import { transact, type Db, type Tx } from '../client.ts'
import { whileLocked } from '../ddl.ts'
import { pgErrorOf } from '../queries/pg-error.ts'
import { readRoute } from './copy.ts'
import { addPartition, countDefault, monthsOf, monthsToPremake, nextMonth, readLike, readPartitions } from './months.ts'
import { changeTrigger, defaultOf, type PartitionedTable, publicTable } from './names.ts'
import { readConversion, readPartitioned, run } from './state.ts'

/** What upkeep did to a table's partitions. */
export interface Upkeep {
  table: PartitionedTable
  /** Months that got a partition. */
  made: string[]
  /** Rows left in the default partition, counted up to 100,000. */
  defaultRows: number
  /** Why months that need a partition have none. */
  problem?: string
}

export interface UpkeepOptions {
  /** Rows that are moved out of the default partition at most, while no one may write to it. Default: 50,000. */
  mostMoved?: number
}

/** How long that, or looking through the default partition, may keep everyone waiting. */
const mostHeldMs = 3_000

/**
 * Makes the partitions of the months ahead, and of those that rows in the default partition are of, which it moves. Holds
 * no lock for long: what it can't have at once it leaves for the next time.
 */
export async function keepPartitions(db: Db, { mostMoved = 50_000 }: UpkeepOptions = {}): Promise<Upkeep[]> {
  const done: Upkeep[] = []
  for (const table of await readPartitioned(db)) {
    const conversion = await readConversion(db, table)
    if (conversion && conversion.foreignKeys.length > 0) continue
    const made: string[] = []
    const problem = await makeMonths(db, table, mostMoved, made).catch((error: unknown) => {
      if (error instanceof AppError) return error.message
      throw error
    })
    done.push({ table, made, defaultRows: await countDefault(db, table), ...(problem !== undefined && { problem }) })
  }
  return done
}

async function makeMonths(
  db: Db,
  table: PartitionedTable,
  mostMoved: number,
  made: string[],
): Promise<string | undefined> {
  const relation = publicTable(table)
  const existing = await readPartitions(db, relation)
  const wanted = new Set([...(await monthsToPremake(db)), ...(await monthsOf(db, defaultOf(table)))])
  let problem: string | undefined
  for (const month of [...wanted].toSorted()) {
    if (existing.has(month)) continue
    await whileLocked(`partition ${month} of ${table}`, { attempts: 10, lockTimeoutMs: 200 }, () =>
      transact(db, async (tx) => {
        // It takes several locks, one after the other: short of the second after which Postgres looks for a deadlock.
        await run(tx, 'SET LOCAL lock_timeout = 200')
        const reason = await reasonToLeave(tx, table, month, mostMoved)
        problem ??= reason
        if (reason !== undefined) return
        await run(tx, `SET LOCAL statement_timeout = ${mostHeldMs}`)
        await addPartition(tx, table, relation, month, await readLike(tx, relation), (partition) =>
          moveFromDefault(tx, table, month, partition),
        )
        made.push(month)
      }),
    ).catch((error: unknown) => {
      if (pgErrorOf(error)?.code !== '57014') throw error
      problem ??= `the default partition holds too many rows to make the partition of ${month.slice(0, 7)} beside them`
    })
  }
  return problem
}

async function reasonToLeave(
  tx: Tx,
  table: PartitionedTable,
  month: string,
  mostMoved: number,
): Promise<string | undefined> {
  // The default partition's index on created_at.
  const { rows } = await tx.execute<{ rows: number; triggers: string[] }>(sql`
    SELECT (SELECT count(*)::int FROM (
        SELECT FROM ${sql.raw(defaultOf(table))}
        WHERE created_at >= ${month}::timestamp AND created_at < ${nextMonth(month)}::timestamp LIMIT ${mostMoved + 1}) AS page) AS rows,
      ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = ${publicTable(table)}::regclass AND NOT tgisinternal
            AND tgtype & 1 = 1 AND tgname !~ ${`^${changeTrigger}`}) AS triggers`)
  const { rows: count, triggers } = rows[0]!
  if (count > mostMoved) return `the default partition holds over ${mostMoved} rows of ${month.slice(0, 7)}`
  if (count === 0 || triggers.length === 0) return undefined
  return `moving ${count} rows of ${month.slice(0, 7)} out of the default partition would run ${triggers.join(', ')}`
}

async function moveFromDefault(tx: Tx, table: PartitionedTable, month: string, partition: string): Promise<void> {
  const { columns } = await readRoute(tx, table, defaultOf(table), partition)
  // A row of the month that came after this statement saw which there are would keep the partition from being attached.
  await run(tx, `LOCK TABLE ${defaultOf(table)} IN ACCESS EXCLUSIVE MODE`)
  await tx.execute(sql`
    WITH moved AS (
      DELETE FROM ${sql.raw(defaultOf(table))}
      WHERE created_at >= ${month}::timestamp AND created_at < ${nextMonth(month)}::timestamp RETURNING *)
    INSERT INTO ${sql.raw(partition)} (${sql.raw(columns)}) SELECT ${sql.raw(columns)} FROM moved`)
}

/** Drops the partition of a month that is past and has no rows any more; false where it has some, or there is none. */
export async function dropEmptyPartition(db: Db, table: PartitionedTable, month: string): Promise<boolean> {
  if (!(await readPartitioned(db)).includes(table)) return false
  const partition = (await readPartitions(db, publicTable(table))).get(month)
  if (partition === undefined) return false
  return whileLocked(`partition ${month} of ${table}`, { attempts: 3 }, () =>
    transact(db, async (tx) => {
      await run(tx, 'SET LOCAL lock_timeout = 2000')
      // As everyone does who comes by the parent: it before its partitions.
      await run(tx, `LOCK TABLE ONLY ${publicTable(table)} IN ACCESS EXCLUSIVE MODE`)
      await run(tx, 'SET LOCAL lock_timeout = 200')
      await run(tx, `LOCK TABLE ${partition} IN ACCESS EXCLUSIVE MODE`)
      const { rows } = await tx.execute(sql`SELECT FROM ${sql.raw(partition)} LIMIT 1`)
      if (rows.length > 0) return false
      await run(tx, `DROP TABLE ${partition}`)
      return true
    }),
  ).catch((error: unknown) => {
    // It is in no one's way: the next time will do.
    if (error instanceof AppError) return false
    throw error
  })
}
