import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { sharedTables } from './additions.ts'
import type { Db } from './client.ts'
import type { Finding } from './drift.ts'

const utcNames = ['utc', 'etc/utc', 'gmt', 'etc/gmt', 'uct', 'etc/uct', 'zulu', 'universal']

/** Settings under which the main app's sessions would write the spec's `TIMESTAMP` columns in local time. */
export async function timezoneSettings(db: Db): Promise<Finding[]> {
  const { rows } = await db.execute<{ holder: string; zone: string; statement: string }>(sql`
    SELECT CASE WHEN s.setrole = 0 THEN format('database %I', d.datname)
                WHEN s.setdatabase = 0 THEN format('role %I', r.rolname)
                ELSE format('role %I in database %I', r.rolname, d.datname) END AS holder,
           split_part(c, '=', 2) AS zone,
           CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %I SET timezone = ''UTC''', d.datname)
                WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I SET timezone = ''UTC''', r.rolname)
                ELSE format('ALTER ROLE %I IN DATABASE %I SET timezone = ''UTC''', r.rolname, d.datname) END AS statement
    FROM pg_db_role_setting s
    CROSS JOIN unnest(s.setconfig) AS c
    LEFT JOIN pg_roles r ON r.oid = s.setrole
    LEFT JOIN pg_database d ON d.oid = s.setdatabase
    WHERE lower(split_part(c, '=', 1)) = 'timezone' AND (s.setdatabase = 0 OR d.datname = current_database())
      AND lower(split_part(c, '=', 2)) NOT IN ${utcNames}
  `)
  const explicit = rows.map(({ holder, zone, statement }) => zoneFinding(`${holder} is set to ${zone}`, statement))
  const zone = await defaultZone(db)
  if (explicit.length > 0 || zone === undefined || utcNames.includes(zone.toLowerCase())) return explicit
  const database = await db.execute<{ name: string }>(sql`SELECT quote_ident(current_database()) AS name`)
  return [
    zoneFinding(`the server's default is ${zone}`, `ALTER DATABASE ${database.rows[0]?.name} SET timezone = 'UTC'`),
  ]
}

const zoneFinding = (where: string, fix: string): Finding => ({
  level: 'warning',
  what: `${where}: sessions write TIMESTAMP columns in that timezone, not in UTC`,
  fix,
})

// Our own sessions ask for UTC at connect, and within them nothing tells what another session would get.
async function defaultZone(db: Db): Promise<string | undefined> {
  const pool = '$client' in db ? db.$client : undefined
  if (!(pool instanceof pg.Pool) || pool.options.connectionString === undefined) return undefined
  const client = new pg.Client({ connectionString: pool.options.connectionString, connectionTimeoutMillis: 5_000 })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await drizzle(client).execute<{ zone: string }>(sql`SELECT current_setting('timezone') AS zone`)
    return rows[0]?.zone
  } finally {
    await client.end()
  }
}

/** Tables with rows from the future: written in a timezone ahead of UTC. */
export async function timestampsNotInUtc(db: Db): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const table of sharedTables) {
    const leading = table.indexes.map(({ config }) => config.columns[0])
    if (!leading.some((key) => key !== undefined && 'name' in key && key.name === 'created_at')) continue
    // idx_<table>_created_at.
    const { rows } = await db.execute<{ minutes: number | null }>(sql`
      SELECT floor(extract(epoch FROM max(created_at) - (now() AT TIME ZONE 'UTC')) / 60)::int AS minutes
      FROM ${sql.identifier('public')}.${sql.identifier(table.name)}
    `)
    const minutes = rows[0]?.minutes ?? 0
    if (minutes < 5) continue
    findings.push({
      level: 'error',
      what: `${table.name} has rows created ${minutes} minutes from now: its TIMESTAMP columns are not written in UTC`,
      fix: "set timezone = 'UTC' for the role that writes them, then correct the rows",
    })
  }
  return findings
}
