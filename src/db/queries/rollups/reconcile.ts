import { sql, type SQL } from 'drizzle-orm'

/** A table of the rollups, as it is brought to what was computed anew. */
export interface Reconciled {
  /** Of `public`, without `website_analytics_`. */
  table: string
  /** What tells rows of a site apart. */
  key: readonly string[]
  values: readonly string[]
  /** `live` holds every row that has a key of `next`: where it is empty, all are new, and are not compared. Default: false. */
  isWhole?: boolean
}

const columns = (names: readonly string[]) =>
  sql.join(
    names.map((name) => sql.identifier(name)),
    sql`, `,
  )

/**
 * CTEs that make the rows of `live` (a condition on `t`; they are the site's) what the CTE `next_<table>` says, and write only what differs:
 * `put_<table>` and `gone_<table>` return those. Rows meet in set operations, which need no good estimate of how many there
 * are; nobody else writes them while the site's row is locked, so that they are removed where they lie.
 */
export function reconcile(
  { table, key, values, isWhole = false }: Reconciled,
  siteId: number,
  live: SQL,
  returning: SQL = sql`1`,
): SQL {
  const target = sql`public.${sql.identifier(`website_analytics_${table}`)}`
  const named = (prefix: string) => sql.identifier(`${prefix}_${table}`)
  const all = columns([...key, ...values])
  const isLive = isWhole ? sql`EXISTS (SELECT FROM ${named('live')})` : sql`true`
  const put = sql`
      INSERT INTO ${target} (site_id, ${all})
      SELECT ${siteId}, ${all} FROM (
        SELECT ${all} FROM ${named('next')} WHERE ${isLive} EXCEPT SELECT ${all} FROM ${named('live')}) d
      ORDER BY ${columns(key)}
      ON CONFLICT (site_id, ${columns(key)}) DO UPDATE SET ${sql.join(
        values.map((name) => sql`${sql.identifier(name)} = excluded.${sql.identifier(name)}`),
        sql`, `,
      )}
      RETURNING ${returning}`
  const add = sql`
      INSERT INTO ${target} (site_id, ${all})
      SELECT ${siteId}, ${all} FROM ${named('next')} WHERE NOT ${isLive} ORDER BY ${columns(key)}
      RETURNING ${returning}`
  return sql`
    ${named('live')} AS MATERIALIZED (SELECT t.ctid AS tid, ${all} FROM ${target} t WHERE ${live}),
    ${named('gone')} AS (
      DELETE FROM ${target} WHERE ctid = ANY (ARRAY(
        SELECT min(tid) FROM (
          SELECT tid, ${columns(key)} FROM ${named('live')}
          UNION ALL SELECT NULL, ${columns(key)} FROM ${named('next')} WHERE ${isLive}) u
        GROUP BY ${columns(key)} HAVING count(*) = 1 AND min(tid) IS NOT NULL))
      RETURNING ${returning}),
    ${
      isWhole
        ? sql`
    ${named('differing')} AS (${put}),
    ${named('added')} AS (${add}),
    ${named('put')} AS (SELECT * FROM ${named('differing')} UNION ALL SELECT * FROM ${named('added')})`
        : sql`${named('put')} AS (${put})`
    }`
}
