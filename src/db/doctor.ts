import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { createIndexStatement, sharedIndexes, sharedTriggers, updatedAtFunction } from './additions.ts'
import type { Db } from './client.ts'
import { type Finding, tableDrift } from './drift.ts'
import { pendingMigrations, readJournal } from './migrate.ts'
import { type IndexState, readDeliveryWatermark, readIndexes } from './online-indexes.ts'
import { packageRoot } from './package-root.ts'
import { timestampsNotInUtc, timezoneSettings } from './timezones.ts'
import { readTriggers, readUpdatedAtFunction } from './triggers.ts'

export type { Finding } from './drift.ts'

const oldestServer = 15

/** Names everything in the database that is not as the worker needs it; empty when all is well. Changes nothing. */
export async function diagnose(db: Db): Promise<Finding[]> {
  const pending = await pendingMigrations(db)
  const findings = [...(await serverVersion(db)), ...pending.map(pendingFinding)]
  // Before the first migration everything of ours is missing, and naming each would hide the one thing to do.
  if (pending.length >= readJournal().length) return findings
  const tables = await tableDrift(db)
  const indexes = await readIndexes(db)
  const standing = new Set([...indexes.values()].map((index) => index.table))
  const readable = !tables.some((finding) => finding.level === 'error')
  return [
    ...findings,
    ...tables,
    ...(await indexDrift(db, indexes, standing, pending)),
    ...(await triggerDrift(db, standing)),
    ...(await functionDrift(db)),
    ...(await viewDrift(db)),
    ...(await timezoneSettings(db)),
    ...(readable ? await timestampsNotInUtc(db) : []),
  ]
}

const pendingFinding = (name: string): Finding => ({
  level: 'error',
  what: `${name} is not applied`,
  fix: 'website-worker migrate (with --online where tables are large)',
})

async function serverVersion(db: Db): Promise<Finding[]> {
  const { rows } = await db.execute<{ version: string; number: number }>(
    sql`SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number`,
  )
  const { version, number } = rows[0] ?? { version: 'unknown', number: 0 }
  if (number >= oldestServer * 10_000) return []
  return [{ level: 'error', what: `PostgreSQL ${version} is too old`, fix: `upgrade to ${oldestServer} or later` }]
}

async function indexDrift(
  db: Db,
  live: Map<string, IndexState>,
  standing: Set<string>,
  pending: readonly string[],
): Promise<Finding[]> {
  const wanted = sharedIndexes(await readDeliveryWatermark(db)).filter((index) => standing.has(index.table))
  const fix = 'website-worker migrate --online'
  const found = wanted.flatMap((index): Finding[] => {
    const state = live.get(index.name)
    if (!state) {
      if (pending.includes(index.name)) return []
      return [{ level: 'warning', what: `index ${index.name} on ${index.table} is missing`, fix }]
    }
    const statement = createIndexStatement(index)
    if (!state.valid || state.definition === statement) return []
    const what = `index ${index.name} is not ours: ${state.definition}`
    return [{ level: index.required ? 'error' : 'warning', what, fix: `drop it, then: ${statement}` }]
  })
  const names = new Set(wanted.map((index) => index.name))
  const invalid = [...live.values()]
    .filter((state) => !state.valid)
    .map((state): Finding => {
      const what = `index ${state.name} on ${state.table} is invalid: its build was interrupted or still runs`
      return { level: 'error', what, fix: names.has(state.name) ? fix : `REINDEX INDEX CONCURRENTLY ${state.name}` }
    })
  return [...found, ...invalid]
}

async function triggerDrift(db: Db, standing: Set<string>): Promise<Finding[]> {
  const live = await readTriggers(db)
  const triggers = sharedTriggers.flatMap(({ name, table }): Finding[] => {
    if (!standing.has(table)) return []
    const state = live.get(name)
    if (!state) {
      const what = `trigger ${name} on ${table} is missing: was it dropped by the main app's migrations?`
      return [{ level: 'error', what, fix: 'website-worker migrate' }]
    }
    if (state.enabled) return []
    const what = `trigger ${name} on ${table} is disabled`
    return [{ level: 'error', what, fix: `ALTER TABLE ${table} ENABLE TRIGGER ${name}` }]
  })
  const fn = await readUpdatedAtFunction(db)
  if (!fn) {
    const what = `function ${updatedAtFunction}() is missing`
    return [...triggers, { level: 'error', what, fix: 'website-worker migrate' }]
  }
  if (fn.inUtc) return triggers
  const fix =
    fn.otherTables.length === 0
      ? 'website-worker migrate'
      : `it serves ${fn.otherTables.join(', ')} too, so decide: ALTER FUNCTION ${updatedAtFunction}() SET timezone = 'UTC'`
  const what = `function ${updatedAtFunction}() writes updated_at in the timezone of whoever updates, not in UTC`
  return [...triggers, { level: 'warning', what, fix }]
}

async function functionDrift(db: Db): Promise<Finding[]> {
  const { rows } = await db.execute<{ name: string }>(
    sql`SELECT DISTINCT proname AS name FROM pg_proc WHERE pronamespace = 'website_worker'::regnamespace`,
  )
  const live = new Set(rows.map((row) => row.name))
  return [...migrated('FUNCTION', 'website_worker')]
    .filter((name) => !live.has(name))
    .map((name) => ({
      level: 'error',
      what: `function website_worker.${name} is missing`,
      fix: 'restore it from the SQL files in drizzle/',
    }))
}

async function viewDrift(db: Db): Promise<Finding[]> {
  const { rows } = await db.execute<{ name: string }>(
    sql`SELECT viewname AS name FROM pg_views WHERE schemaname = 'public'`,
  )
  const live = new Set(rows.map((row) => row.name))
  return [...migrated('VIEW', 'public')]
    .filter((name) => !live.has(name))
    .map((name) => ({
      level: 'error',
      what: `view ${name} is missing: was it dropped by the main app's migrations?`,
      fix: 'restore it from the SQL files in drizzle/',
    }))
}

/** What the migrations made of a kind in a schema, and didn't drop again. */
function migrated(kind: 'FUNCTION' | 'VIEW', schema: string): Set<string> {
  const names = new Set<string>()
  for (const { tag } of readJournal()) {
    const text = readFileSync(join(packageRoot(), 'drizzle', `${tag}.sql`), 'utf8')
    const statement = new RegExp(
      `^(CREATE(?: OR REPLACE)?|DROP) ${kind} (?:IF EXISTS )?"?${schema}"?\\."?(\\w+)`,
      'gim',
    )
    for (const [, verb, name = ''] of text.matchAll(statement)) {
      if (verb?.toUpperCase() === 'DROP') names.delete(name)
      else names.add(name)
    }
  }
  return names
}
