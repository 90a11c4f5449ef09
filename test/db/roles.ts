import { randomBytes } from 'node:crypto'
import type pg from 'pg'

/** A role of its own for a test, that may log in; `drop` after the databases it owns things in are gone. */
export async function createRole(pool: pg.Pool): Promise<{ name: string; urlOf(url: string): string }> {
  const name = `main_app_${randomBytes(4).toString('hex')}`
  await pool.query(`CREATE ROLE ${name} LOGIN PASSWORD 'secret'`)
  return {
    name,
    urlOf(url) {
      const own = new URL(url)
      own.username = name
      own.password = 'secret'
      return own.href
    },
  }
}
