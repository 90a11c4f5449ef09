import { sql } from 'drizzle-orm'
import type { Db } from './client.ts'
import type { Finding } from './drift.ts'
import { readIdHeadroom } from './queries/id-headroom.ts'

// Statistics of a week have seen month's ends and Mondays, or soon will have.
const trustedDays = 7
const slowMs = 500

const warning = (what: string, fix: string): Finding => ({ level: 'warning', what, fix })
const note = (what: string, fix: string): Finding => ({ level: 'note', what, fix })

// Not the plain form of a table that was converted: it goes soon.
const ours = sql`((n.nspname = 'website_worker' AND c.relname !~ '^website_') OR n.nspname = 'website_partitions'
  OR (n.nspname = 'public' AND c.relname ~ '^website_'))`

/** How the database fares: indexes no one uses, rows no one cleaned up, slow statements, ids that run out. Changes nothing. */
export async function examine(db: Db): Promise<Finding[]> {
  return [
    ...(await idsRunningOut(db)),
    ...(await invalidIndexes(db)),
    ...(await deadRows(db)),
    ...(await staleStatistics(db)),
    ...(await unusedIndexes(db)),
    ...(await slowStatements(db)),
  ]
}

async function idsRunningOut(db: Db): Promise<Finding[]> {
  return (await readIdHeadroom(db))
    .filter(({ headroom }) => headroom < 0.5)
    .map(({ table, headroom }) =>
      warning(
        `${table} has used ${((1 - headroom) * 100).toFixed(1)} % of the ids an INTEGER can hold`,
        'find out what burns them (rolled back or conflicting inserts count), and plan for BIGINT with the main app',
      ),
    )
}

async function invalidIndexes(db: Db): Promise<Finding[]> {
  const { rows } = await db.execute<{ name: string; relation: string }>(sql`
    SELECT x.indexrelid::regclass::text AS name, c.oid::regclass::text AS relation
    FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT x.indisvalid AND ${ours} AND NOT (n.nspname = 'public' AND c.relkind = 'r') ORDER BY 1`)
  return rows.map(({ name, relation }) =>
    warning(`index ${name} on ${relation} is invalid: no statement uses it`, `REINDEX INDEX CONCURRENTLY ${name}`),
  )
}

async function deadRows(db: Db): Promise<Finding[]> {
  const { rows } = await db.execute<{ name: string; dead: number; live: number; vacuumed: string | null }>(sql`
    SELECT c.oid::regclass::text AS name, s.n_dead_tup::float8 AS dead, s.n_live_tup::float8 AS live,
      to_char(greatest(s.last_vacuum, s.last_autovacuum) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS vacuumed
    FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE ${ours} AND s.n_dead_tup > 10000 AND s.n_dead_tup > 0.2 * s.n_live_tup ORDER BY s.n_dead_tup DESC LIMIT 20`)
  return rows.map(({ name, dead, live, vacuumed }) => {
    const last = vacuumed === null ? 'it was never vacuumed' : `last vacuumed ${vacuumed} UTC`
    const fix = `VACUUM (ANALYZE) ${name}; if it comes back: is a transaction open for hours (pg_stat_activity), is autovacuum on?`
    return warning(`${name} has ${dead} dead rows beside ${live} live ones; ${last}`, fix)
  })
}

async function staleStatistics(db: Db): Promise<Finding[]> {
  const { rows } = await db.execute<{ name: string; changed: number; analyzed: string | null }>(sql`
    SELECT c.oid::regclass::text AS name, s.n_mod_since_analyze::float8 AS changed,
      to_char(greatest(s.last_analyze, s.last_autoanalyze) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS analyzed
    FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE ${ours} AND c.relkind = 'r' AND s.n_mod_since_analyze > 10000 + 0.3 * greatest(c.reltuples, 0)
    ORDER BY s.n_mod_since_analyze DESC LIMIT 20`)
  return rows.map(({ name, changed, analyzed }) => {
    const last = analyzed === null ? 'it was never analyzed' : `last analyzed ${analyzed} UTC`
    return warning(`the planner's statistics of ${name} are ${changed} changes old; ${last}`, `ANALYZE ${name}`)
  })
}

// Those that keep rows apart, or that deleting a parent row needs, have their use without ever being scanned for a query.
async function unusedIndexes(db: Db): Promise<Finding[]> {
  const { rows: since } = await db.execute<{ since: string; days: number }>(sql`
    SELECT to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS since, extract(epoch FROM now() - since)::float8 / 86400 AS days
    FROM (SELECT coalesce(stats_reset, pg_postmaster_start_time()) AS since FROM pg_stat_database
          WHERE datname = current_database()) AS s`)
  const { since: from, days } = since[0]!
  if (days < trustedDays) {
    const what = `which indexes no one uses can't be told yet: statistics are kept since ${from} only`
    return [note(what, `ask again after ${trustedDays} days`)]
  }
  const { rows } = await db.execute<{ name: string; relation: string; size: string }>(sql`
    SELECT x.indexrelid::regclass::text AS name, c.oid::regclass::text AS relation,
      pg_size_pretty(pg_relation_size(x.indexrelid)) AS size
    FROM pg_index x
    JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_stat_all_indexes s ON s.indexrelid = x.indexrelid
    WHERE ${ours} AND s.idx_scan = 0 AND NOT x.indisunique AND pg_relation_size(x.indexrelid) > 1048576
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.conkey[1] = x.indkey[0])
    ORDER BY pg_relation_size(x.indexrelid) DESC LIMIT 20`)
  return rows.map(({ name, relation, size }) => {
    const fix = `if no replica uses it either: DROP INDEX CONCURRENTLY ${name} (one of ours comes back with the next migrate)`
    return warning(`index ${name} on ${relation} (${size}) was not used since ${from}, and slows down every write`, fix)
  })
}

async function slowStatements(db: Db): Promise<Finding[]> {
  const { rows: extension } = await db.execute<{ schema: string; loaded: boolean }>(sql`
    SELECT quote_ident(n.nspname) AS schema,
      current_setting('shared_preload_libraries') ~ 'pg_stat_statements' AS loaded
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'`)
  const found = extension[0]
  if (!found?.loaded) {
    const fix =
      "shared_preload_libraries = 'pg_stat_statements', restart the server, then CREATE EXTENSION pg_stat_statements"
    return [note("slow statements can't be told: pg_stat_statements is not installed", fix)]
  }
  const { rows } = await db.execute<{ query: string; mean: number; calls: number; total: number }>(sql`
    SELECT left(regexp_replace(s.query, '[[:space:]]+', ' ', 'g'), 200) AS query, round(s.mean_exec_time)::float8 AS mean,
      s.calls::float8 AS calls, round(s.total_exec_time / 1000)::float8 AS total
    FROM ${sql.raw(found.schema)}.pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND s.calls >= 5 AND s.mean_exec_time > ${slowMs} AND s.query ~* 'website_'
    ORDER BY s.total_exec_time DESC LIMIT 10`)
  return rows.map(({ query, mean, calls, total }) =>
    warning(`takes ${mean} ms on average (${calls} calls, ${total} s): ${query}`, 'EXPLAIN (ANALYZE, BUFFERS) it'),
  )
}
