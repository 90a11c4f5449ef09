import { readFileSync } from 'node:fs'
import type pg from 'pg'

/** Statements of the spec's own SQL, in an order that works: it creates sites before the themes they refer to. */
export function specStatements(): string[] {
  const text = readFileSync(new URL('../fixtures/spec.sql', import.meta.url), 'utf8').replace(/^--.*$/gm, '')
  // A statement ends at a line's end, except inside the function's body.
  const statements = text
    .split(/(?<=\$\$ language 'plpgsql';)|(?<=\);)\s*\n|(?<=EXECUTE FUNCTION \w+\(\);)/)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '')
  const themes = statements.filter((statement) => creates(statement) === 'website_themes')
  const mainApp = ['users', 'partners'].map((table) => `CREATE TABLE ${table} (id SERIAL PRIMARY KEY);`)
  return [...mainApp, ...themes, ...statements.filter((statement) => !themes.includes(statement))]
}

const creates = (statement: string) => /^CREATE TABLE (?:IF NOT EXISTS )?(\w+)/.exec(statement)?.[1]

/** The 27 tables of the spec. */
export const specTables = specStatements()
  .map(creates)
  .filter((name) => name?.startsWith('website_') === true)
  .map(String)

/** Makes the tables as the main app does, from the spec's own SQL; `only` keeps some of them. Default: all. */
export async function applySpec(pool: pg.Pool, only?: (statement: string) => boolean): Promise<void> {
  for (const statement of specStatements()) if (only?.(statement) ?? true) await pool.query(statement)
}
