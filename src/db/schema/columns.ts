import { sql } from 'drizzle-orm'
import { check, numeric, timestamp } from 'drizzle-orm/pg-core'

/** A `TIMESTAMP` of the spec: UTC without saying so. */
export const utc = (name: string) => timestamp(name, { mode: 'date' })

/** A `TIMESTAMP DEFAULT CURRENT_TIMESTAMP` of the spec. */
export const utcNow = (name: string) => utc(name).default(sql`CURRENT_TIMESTAMP`)

/** A `DECIMAL(10, 2)` of the spec; a decimal string end to end. */
export const decimal = (name: string) => numeric(name, { precision: 10, scale: 2 })

/** `CHECK (column IN (…))` under the name Postgres gives it. */
export function oneOf(table: string, column: string, values: readonly string[]) {
  const list = values.map((value) => `'${value}'`).join(', ')
  return check(`${table}_${column}_check`, sql.raw(`${column} IN (${list})`))
}
