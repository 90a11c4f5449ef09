import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import * as schema from './schema/index.ts'

/** Drizzle over one pool, knowing every table. */
export type Db = NodePgDatabase<typeof schema>
/** A transaction of `Db`; usable wherever `Db` is. */
export type Tx = Parameters<Parameters<Db['transaction']>[0]>[0]

export interface DatabaseOptions {
  url: string
  /** Connections at most. Default: 10. */
  max?: number
  /** Shown in pg_stat_activity. Default: `website-worker`. */
  applicationName?: string
}

export interface Database {
  db: Db
  pool: pg.Pool
  close(): Promise<void>
}

// A Date bound to a TIMESTAMP column means UTC, whatever the process's zone.
pg.defaults.parseInputDatesAsUTC = true

/** Opens a pool whose sessions run in UTC, whatever the server, role or process says. */
export function createDatabase(options: DatabaseOptions): Database {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.max ?? 10,
    application_name: options.applicationName ?? 'website-worker',
    keepAlive: true,
    connectionTimeoutMillis: 5_000,
    options: '-c timezone=UTC',
  })
  // An idle connection that drops is replaced by the pool; without a listener it would end the process.
  pool.on('error', () => {})
  // Likewise one that breaks inside a transaction: its queries fail, which is enough.
  pool.on('connect', (client) => void client.on('error', () => {}))
  return { db: drizzle(pool, { schema }), pool, close: () => pool.end() }
}
