import { sql, type SQL } from 'drizzle-orm'
import { analyticsDimensions } from '../../../analytics-dimensions.ts'

/** The dimensions as columns of a table or CTE. */
export const dimensionColumns = (of: SQL): SQL =>
  sql.join(
    analyticsDimensions.map((name) => sql`${of}.${sql.identifier(name)}`),
    sql`, `,
  )

/** What a URL parser needs of a referrer to tell its host; NULL where there is none. Backslashes count as slashes. */
export const originOf = (referrer: SQL): SQL =>
  sql`left(lower(substring(btrim(translate(${referrer}, chr(92), '/')) FROM '^[A-Za-z][A-Za-z0-9+.-]*:/*[^/?#]*')), 301)`

/** The hash by which user agents are known. */
export const agentHash = (userAgent: SQL): SQL => sql`md5(${userAgent})::uuid`

/**
 * What `website_worker.path_of` says. URLs of the common kind are taken apart without regular expressions, which would
 * take longer than all else that is done with a row; what is cut off may be more than there is.
 */
export const pathOf = (url: SQL): SQL =>
  sql`CASE WHEN ${url} LIKE 'https://%' THEN coalesce(nullif(right(split_part(split_part(${url}, '#', 1), '?', 1),
    -8 - length(split_part(${url}, '/', 3))), ''), '/') ELSE website_worker.path_of(${url}) END`

/** Which page it is, of its id and its path, as text. */
export const pageKey = (pageId: SQL, path: SQL): SQL => sql`md5(coalesce(${pageId}::text, '') || ':' || ${path})`

/** A pageview's own dimensions; `r` is its row of referrer_hosts, if any. */
export const rawDimensions = (p: SQL, r: SQL): SQL =>
  sql.join(
    analyticsDimensions.map((name) =>
      name === 'referrer_host'
        ? sql`coalesce(${r}.host, '') AS referrer_host`
        : sql`coalesce(${p}.${sql.identifier(name)}, '') AS ${sql.identifier(name)}`,
    ),
    sql`, `,
  )

/** A site's pageviews, events or visits, by their alias, from one time to another. */
export function within(siteId: number, of: 'p' | 'e' | 'v', from: SQL, to: SQL): SQL {
  const at = sql.raw(`${of}.${of === 'v' ? 'started_at' : 'created_at'}`)
  return sql`${sql.raw(of)}.site_id = ${siteId}::int AND ${at} >= ${from} AND ${at} < ${to}`
}
