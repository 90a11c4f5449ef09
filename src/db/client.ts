import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { AppError } from '../errors.ts'
import { pgErrorOf } from './queries/pg-error.ts'
import * as schema from './schema/index.ts'

/** Drizzle over one pool, knowing every table. */
export type Db = NodePgDatabase<typeof schema> & { $client?: unknown }
/** A transaction of `Db`; usable wherever `Db` is. */
export type Tx = Parameters<Parameters<Db['transaction']>[0]>[0]

export interface DatabaseOptions {
  url: string
  /** Connections at most. Default: 10. */
  max?: number
  /** Shown in pg_stat_activity. Default: `website-worker`. */
  applicationName?: string
  /** How long a statement may wait for a lock that someone else holds. Default: as long as it may run. */
  lockTimeoutMs?: number
  /** How long a statement may run. Default: 60000. */
  statementTimeoutMs?: number
  /** Every statement names its rows by key: a table that grew faster than its statistics must not be read whole. Default: false. */
  byKey?: boolean
}

export interface Database {
  db: Db
  pool: pg.Pool
  close(): Promise<void>
}

// A Date bound to a TIMESTAMP column means UTC, whatever the process's zone.
pg.defaults.parseInputDatesAsUTC = true

/**
 * Opens a pool whose sessions run in UTC and see in each statement what was committed before it, whatever the server, role
 * or process says, and in which nothing waits for ever.
 */
export function createDatabase(options: DatabaseOptions): Database {
  const { statementTimeoutMs = 60_000, lockTimeoutMs = 0 } = options
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.max ?? 10,
    application_name: options.applicationName ?? 'website-worker',
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    connectionTimeoutMillis: 5_000,
    options: `-c timezone=UTC -c default_transaction_isolation=read\\ committed -c statement_timeout=${statementTimeoutMs} -c lock_timeout=${lockTimeoutMs}${options.byKey ? ' -c enable_seqscan=off' : ''}`,
    // For a server that went silent and can't keep its own timeout.
    query_timeout: statementTimeoutMs + 5_000,
  })
  // An idle connection that drops is replaced by the pool; without a listener it would end the process.
  pool.on('error', () => {})
  // Likewise one that breaks inside a transaction: its queries fail, which is enough.
  pool.on('connect', (client) => void client.on('error', () => {}))
  return { db: drizzle(pool, { schema }), pool, close: () => pool.end() }
}

/**
 * Runs `work` in a transaction. Unlike `db.transaction` it gives its connection back when already BEGIN fails, and
 * drops one whose state is unknown.
 */
export function transact<T>(db: Db, work: (tx: Tx) => Promise<T>): Promise<T> {
  return onOneConnection(db, (connection) => connection.transaction(work))
}

/** Runs `work` on one connection: a statement that failed has let go of its locks before the next one begins. */
export async function onOneConnection<T>(db: Db, work: (connection: Db) => Promise<T>): Promise<T> {
  const client = await (db.$client as pg.Pool).connect()
  let broken: Error | undefined
  try {
    // Without the schema: working out its relations every time would cost more than the work.
    return await work(drizzle(client) as unknown as Db)
  } catch (error) {
    if (!(error instanceof AppError) && !pgErrorOf(error)) broken = error as Error
    throw error
  } finally {
    client.release(broken)
  }
}
