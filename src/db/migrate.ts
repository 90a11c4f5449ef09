import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { migrate as applyJournal } from 'drizzle-orm/node-postgres/migrator'
import { ledgerIndexName } from './additions.ts'
import type { Db } from './client.ts'
import { whileLocked, withMaintenanceConnection } from './ddl.ts'
import { ensureIndexes, type IndexOptions, readIndexes } from './online-indexes.ts'
import { packageRoot } from './package-root.ts'
import { ensureTriggers } from './triggers.ts'

export type MigrateOptions = IndexOptions

export interface MigrateResult {
  /** Migrations applied now, by tag. */
  applied: string[]
  /** Indexes and triggers made now. */
  added: string[]
  /** Indexes left for `online`, since their table is large. */
  deferred: string[]
}

interface JournalEntry {
  tag: string
  when: number
}

/** The migrations of this release, oldest first. */
export function readJournal(): JournalEntry[] {
  const journal = JSON.parse(readFileSync(join(packageRoot(), 'drizzle/meta/_journal.json'), 'utf8'))
  return (journal as { entries: JournalEntry[] }).entries
}

async function unappliedMigrations(db: Db): Promise<string[]> {
  const { rows } = await db.execute<{ known: boolean }>(
    sql`SELECT to_regclass('website_worker.migrations') IS NOT NULL AS known`,
  )
  if (!rows[0]?.known) return readJournal().map((entry) => entry.tag)
  const last = await db.execute<{ at: string | null }>(
    sql`SELECT max(created_at)::text AS at FROM website_worker.migrations`,
  )
  const lastAt = Number(last.rows[0]?.at ?? 0)
  return readJournal()
    .filter((entry) => entry.when > lastAt)
    .map((entry) => entry.tag)
}

/** What the schema still lacks for this release to run: migrations by tag, and the ledger's index. */
export async function pendingMigrations(db: Db): Promise<string[]> {
  const migrations = await unappliedMigrations(db)
  const ledgerIndex = (await readIndexes(db)).get(ledgerIndexName)
  return ledgerIndex?.valid ? migrations : [...migrations, ledgerIndexName]
}

/** Whether this release can run on the schema as it stands. */
export async function isMigrated(db: Db): Promise<boolean> {
  return (await pendingMigrations(db)).length === 0
}

/**
 * Brings a database to this release, empty or in use; a second run changes nothing.
 * Throws `unavailable` when a table stays locked, `misconfigured` when the role may not change the shared tables.
 */
export async function migrate(databaseUrl: string, options: MigrateOptions = {}): Promise<MigrateResult> {
  const report = options.report ?? (() => {})
  return withMaintenanceConnection(databaseUrl, report, async (db) => {
    const applied = await unappliedMigrations(db)
    if (applied.length > 0) {
      await whileLocked('migrations', options, async () => {
        await db.execute(sql.raw(`SET lock_timeout = ${options.lockTimeoutMs ?? 2_000}`))
        await applyJournal(db, {
          migrationsFolder: join(packageRoot(), 'drizzle'),
          migrationsSchema: 'website_worker',
          migrationsTable: 'migrations',
        })
      })
      await db.execute(sql`RESET lock_timeout`)
      report(`applied ${applied.join(', ')}`)
    }
    const triggers = await ensureTriggers(db, options)
    const { built, deferred } = await ensureIndexes(db, options)
    return { applied, added: [...triggers, ...built], deferred }
  })
}
