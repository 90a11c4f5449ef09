import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { AppError, messageOf } from '../errors.ts'
import type { Db } from './client.ts'
import { pgErrorOf } from './queries/pg-error.ts'
import * as schema from './schema/index.ts'

/** How patiently to change a database that is in use. */
export interface DdlOptions {
  /** Longest wait for a lock while others queue behind it, ms. Default: 2,000. */
  lockTimeoutMs?: number
  /** Tries before giving up on a lock. Default: 8. */
  attempts?: number
}

const retryable = new Set(['55P03', '40P01'])

/** Runs `change(lockTimeoutMs)` again while it fails for want of a lock; in between, writers get their turn. */
export async function whileLocked<T>(
  what: string,
  options: DdlOptions,
  change: (attempt: number) => Promise<T>,
): Promise<T> {
  const attempts = options.attempts ?? 8
  for (let attempt = 1; ; attempt++) {
    try {
      return await change(attempt)
    } catch (error) {
      const state = pgErrorOf(error)?.code
      if (state === '42501') {
        const advice = 'run this as the owner of the shared tables or as a superuser'
        throw new AppError('misconfigured', `${what}: ${messageOf(pgErrorOf(error))}; ${advice}`, { cause: error })
      }
      if (state === undefined || !retryable.has(state)) throw error
      if (attempt >= attempts) {
        const message = `${what}: the table stayed locked through ${attempts} tries; run it again when it is quieter`
        throw new AppError('unavailable', message, { cause: error })
      }
      await wait(Math.min(options.lockTimeoutMs ?? 2_000, 250 * attempt))
    }
  }
}

/** Runs statements in one short transaction that never makes others queue for longer than the lock timeout. */
export function runDdl(db: Db, what: string, statements: readonly string[], options: DdlOptions = {}): Promise<void> {
  return whileLocked(what, options, () =>
    db.transaction(async (tx) => {
      await tx.execute(sql.raw(`SET LOCAL lock_timeout = ${options.lockTimeoutMs ?? 2_000}`))
      for (const statement of statements) await tx.execute(sql.raw(statement))
    }),
  )
}

/** Holds the one lock of migrate and uninstall on a connection of its own, and runs `body` on that connection. */
export async function withMaintenanceConnection<T>(
  url: string,
  report: (line: string) => void,
  body: (db: Db) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'website-worker migrate',
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
  })
  client.on('error', () => {})
  await client.connect()
  try {
    const db = drizzle(client, { schema })
    await db.execute(sql`SET timezone = 'UTC'`)
    await db.execute(sql`SET default_transaction_isolation = 'read committed'`)
    await db.execute(sql`SET search_path = public`)
    await db.execute(sql`SET statement_timeout = 0`)
    await db.execute(sql`SET idle_in_transaction_session_timeout = 0`)
    await takeTurn(db, report)
    return await body(db)
  } finally {
    await client.end()
  }
}

// Polled: a session that waits inside pg_advisory_lock() holds a snapshot that CREATE INDEX CONCURRENTLY waits for.
async function takeTurn(db: Db, report: (line: string) => void): Promise<void> {
  for (let tries = 0; ; tries++) {
    const { rows } = await db.execute<{ mine: boolean }>(
      sql`SELECT pg_try_advisory_lock(hashtextextended('website_worker.migrate', 0)) AS mine`,
    )
    if (rows[0]?.mine) return
    if (tries === 0) report('waiting for another migration to end')
    await wait(200)
  }
}
