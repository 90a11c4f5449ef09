import { is, SQL, sql } from 'drizzle-orm'
import { getTableConfig, PgDialect, PgTable } from 'drizzle-orm/pg-core'
import { sharedTables } from './additions.ts'
import type { Db } from './client.ts'
import { readPartitioned } from './partitions/state.ts'
import * as rollups from './schema/rollups.ts'
import * as worker from './schema/worker.ts'

/** Something that is not as it should be, and what to do about it. */
export interface Finding {
  /** A `note` asks for nothing. */
  level: 'error' | 'warning' | 'note'
  what: string
  fix: string
}

type Table = (typeof sharedTables)[number]
type Column = Table['columns'][number]

interface LiveColumn {
  type: string
  notNull: boolean
  default: string | null
}

const dialect = new PgDialect()
const print = (expression: SQL) => dialect.sqlToQuery(expression).sql

const workerTables = [...Object.values(worker), ...Object.values(rollups)]
  .filter((value) => is(value, PgTable))
  .map((table) => getTableConfig(table))

const spelled: Record<string, string> = { serial: 'integer', timestamp: 'timestamp without time zone' }

function typeOf(column: Column): string {
  const type = column.getSQLType()
  return spelled[type] ?? type.replace(/^varchar/, 'character varying').replace(', ', ',')
}

function defaultOf(column: Column): string | null {
  const value = column.default
  if (value === undefined) return null
  if (is(value, SQL)) return print(value)
  if (typeof value === 'object') return `'${JSON.stringify(value)}'::jsonb`
  return typeof value === 'string' ? `'${value}'::${typeOf(column).replace(/\(.*/, '')}` : String(value)
}

/** What the main app or a person changed on tables the worker relies on: columns, keys, checks. */
export async function tableDrift(db: Db): Promise<Finding[]> {
  const columns = await readColumns(db)
  const constraints = await readConstraints(db)
  const partitioned: readonly string[] = await readPartitioned(db)
  // users and partners are the main app's to shape.
  const website = sharedTables.filter((table) => table.name.startsWith('website_'))
  return [...website, ...workerTables].flatMap((table) => {
    const name = table.schema === undefined ? table.name : `${table.schema}.${table.name}`
    const live = columns.get(name)
    if (!live) return [error(`table ${name} is missing`, 'website-worker migrate, or restore it from a backup')]
    const isPartitioned = partitioned.includes(name)
    const ours = table.columns.flatMap((column) => columnDrift(name, column, live.get(column.name), isPartitioned))
    if (!website.includes(table)) return ours
    const primaryKey = isPartitioned ? 'PRIMARY KEY (id, created_at)' : 'PRIMARY KEY (id)'
    return [
      ...(isPartitioned ? [partitionedNote(name)] : []),
      ...ours,
      ...constraintDrift(table, constraints.get(name) ?? [], primaryKey),
    ]
  })
}

const partitionedNote = (table: string): Finding => ({
  level: 'note',
  what: `${table} is partitioned by month: unlike the spec's its primary key is (id, created_at), and created_at refuses NULL`,
  fix: 'nothing to do; website-worker partition status says more',
})

const error = (what: string, fix: string): Finding => ({ level: 'error', what, fix })
const warning = (what: string, fix: string): Finding => ({ level: 'warning', what, fix })

function columnDrift(table: string, column: Column, live: LiveColumn | undefined, isPartitioned: boolean): Finding[] {
  const name = `${table}.${column.name}`
  const alter = `ALTER TABLE ${table} ALTER COLUMN ${column.name}`
  const type = typeOf(column)
  if (!live) return [error(`column ${name} is missing`, `ALTER TABLE ${table} ADD COLUMN ${column.name} ${type}`)]
  const findings: Finding[] = []
  if (live.type !== type) findings.push(error(`column ${name} is ${live.type}, not ${type}`, `${alter} TYPE ${type}`))
  const notNull = column.notNull || (isPartitioned && column.name === 'created_at')
  if (live.notNull !== notNull) {
    findings.push(
      live.notNull
        ? error(`column ${name} refuses NULL`, `${alter} DROP NOT NULL`)
        : warning(`column ${name} accepts NULL`, `${alter} SET NOT NULL`),
    )
  }
  const wanted = defaultOf(column)
  const generated = column.getSQLType() === 'serial'
  if (generated ? live.default === null : live.default !== wanted) {
    const should = generated ? 'its sequence' : (wanted ?? 'none')
    const fix = generated
      ? `${alter} SET DEFAULT nextval('${table}_${column.name}_seq')`
      : `${alter} ${wanted === null ? 'DROP DEFAULT' : `SET DEFAULT ${wanted}`}`
    findings.push(warning(`default of ${name} is ${live.default ?? 'none'}, not ${should}`, fix))
  }
  return findings
}

const wordsOf = (definition: string) => [...definition.matchAll(/'([^']*)'/g)].map((match) => match[1]).toSorted()

// By content, not by name: a main app whose tool names constraints its own way has not changed anything.
function constraintDrift(table: Table, live: readonly string[], primaryKey: string): Finding[] {
  const missing = (level: typeof error, definition: string) =>
    live.includes(definition)
      ? []
      : [level(`${table.name} lacks ${definition}`, `ALTER TABLE ${table.name} ADD ${definition}`)]
  const unique = table.uniqueConstraints.flatMap((constraint) =>
    missing(error, `UNIQUE (${constraint.columns.map((column) => column.name).join(', ')})`),
  )
  const foreign = table.foreignKeys.flatMap((key) => {
    const { columns, foreignColumns, foreignTable } = key.reference()
    const action = key.onDelete && key.onDelete !== 'no action' ? ` ON DELETE ${key.onDelete.toUpperCase()}` : ''
    const target = `${getTableConfig(foreignTable).name}(${foreignColumns.map((column) => column.name).join(', ')})`
    return missing(
      warning,
      `FOREIGN KEY (${columns.map((column) => column.name).join(', ')}) REFERENCES ${target}${action}`,
    )
  })
  const checks = table.checks.flatMap((check) => {
    const wanted = print(check.value)
    const column = wanted.split(' ')[0] ?? ''
    const found = live.filter((definition) => definition.startsWith('CHECK') && definition.includes(`(${column})`))
    return found.some((definition) => String(wordsOf(definition)) === String(wordsOf(wanted)))
      ? []
      : missing(warning, `CHECK (${wanted})`)
  })
  const primary = missing(error, primaryKey)
  return [...primary, ...unique, ...foreign, ...checks]
}

async function readColumns(db: Db): Promise<Map<string, Map<string, LiveColumn>>> {
  const { rows } = await db.execute<LiveColumn & { table: string; name: string; [key: string]: unknown }>(sql`
    SELECT CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END AS table,
           a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS "notNull",
           pg_get_expr(d.adbin, d.adrelid) AS default
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('public', 'website_worker')
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped
  `)
  const tables = new Map<string, Map<string, LiveColumn>>()
  for (const { table, name, ...column } of rows) {
    const columns = tables.get(table) ?? new Map<string, LiveColumn>()
    tables.set(table, columns.set(name, column))
  }
  return tables
}

// A unique index without a constraint keeps rows apart just as well.
async function readConstraints(db: Db): Promise<Map<string, string[]>> {
  const { rows } = await db.execute<{ table: string; definition: string }>(sql`
    SELECT c.relname AS table, replace(pg_get_constraintdef(k.oid), 'REFERENCES public.', 'REFERENCES ') AS definition
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT c.relname, substring(pg_get_indexdef(x.indexrelid) FROM 'USING btree (.*)$')
    FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
    WHERE c.relnamespace = 'public'::regnamespace AND x.indisunique AND x.indisvalid AND x.indpred IS NULL
  `)
  const tables = new Map<string, string[]>()
  for (const { table, definition } of rows) {
    const text = definition?.startsWith('(') ? `UNIQUE ${definition}` : definition
    tables.set(table, [...(tables.get(table) ?? []), text])
  }
  return tables
}
