import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../../client.ts'
import { untilDone } from '../prune-steps.ts'
import { agentHash, originOf, within } from './pageview-parts.ts'
import type { RollupSite } from './site.ts'

/** What only a program can tell of a pageview. */
export interface Classifiers {
  isBot(userAgent: string): boolean
  /** The host in a URL that has neither path nor query; empty where there is none. */
  hostOf(origin: string): string
}

/** Found at a time. */
const pageSize = 5_000
/** After so many days it is judged anew; what nobody has asked about for twice as long is forgotten. */
const freshDays = 30

interface Unknown {
  kind: 'agent' | 'origin'
  /** A hash of the user agent, or the origin itself. */
  key: string
  text: string
}

/**
 * Judges the user agents and referrers in pageviews of some days that are not known yet, a page at a time. They are written
 * down outside the transaction: what is true of them is true for every site, and nobody has to wait for it.
 */
export async function classifyNew(
  db: Db,
  tx: Tx,
  site: Pick<RollupSite, 'siteId' | 'zone'>,
  days: readonly string[],
  judge: Classifiers,
) {
  for (;;) {
    const found = await findUnknown(tx, site, days)
    const agents = found.filter(({ kind }) => kind === 'agent')
    const origins = found.filter(({ kind }) => kind === 'origin')
    // Primary keys.
    if (agents.length > 0) {
      await db.execute(
        sql`INSERT INTO website_worker.user_agents (hash, is_bot)
            SELECT * FROM unnest(${sql.param(agents.map(({ key }) => key))}::uuid[],
              ${sql.param(agents.map(({ text }) => judge.isBot(text)))}::bool[]) ORDER BY 1
            ON CONFLICT (hash) DO UPDATE SET is_bot = excluded.is_bot, seen_on = excluded.seen_on`,
      )
    }
    if (origins.length > 0) {
      await db.execute(
        sql`INSERT INTO website_worker.referrer_hosts (origin, host)
            SELECT * FROM unnest(${sql.param(origins.map(({ key }) => key))}::text[],
              ${sql.param(origins.map(({ text }) => judge.hostOf(text)))}::text[]) ORDER BY 1
            ON CONFLICT (origin) DO UPDATE SET host = excluded.host, seen_on = excluded.seen_on`,
      )
    }
    if (agents.length < pageSize && origins.length < pageSize) return
  }
}

async function findUnknown(
  tx: Tx,
  { siteId, zone }: Pick<RollupSite, 'siteId' | 'zone'>,
  days: readonly string[],
): Promise<Unknown[]> {
  // idx_website_pageviews_site_id_created_at, day by day; primary keys of user_agents and referrer_hosts.
  const { rows } = await tx.execute(
    sql`WITH seen AS MATERIALIZED (
          SELECT p.user_agent, ${originOf(sql`p.referrer`)} AS origin
          FROM unnest(${sql.param(days)}::date[]) d
          CROSS JOIN LATERAL (
            SELECT p.user_agent, p.referrer FROM public.website_pageviews p
            WHERE ${within(
              siteId,
              'p',
              sql`website_worker.instant_of(d::timestamp, ${zone}) AT TIME ZONE 'UTC'`,
              sql`website_worker.instant_of((d + 1)::timestamp, ${zone}) AT TIME ZONE 'UTC'`,
            )} OFFSET 0) p
          GROUP BY 1, 2)
        (SELECT 'agent' AS kind, a.hash::text AS key, left(a.user_agent, 1000) AS text
         FROM (SELECT DISTINCT ON (1) ${agentHash(sql`user_agent`)} AS hash, user_agent FROM seen WHERE user_agent <> '') a
         WHERE NOT EXISTS (SELECT FROM website_worker.user_agents k
                             WHERE k.hash = a.hash AND k.seen_on > current_date - ${freshDays}::int)
         LIMIT ${pageSize})
        UNION ALL
        (SELECT 'origin', o.origin, o.origin
         FROM (SELECT DISTINCT origin FROM seen WHERE length(origin) <= 300) o
         WHERE NOT EXISTS (SELECT FROM website_worker.referrer_hosts k
                             WHERE k.origin = o.origin AND k.seen_on > current_date - ${freshDays}::int)
         LIMIT ${pageSize})`,
  )
  return rows as unknown as Unknown[]
}

/** Forgets, a little at a time, what no pageview that was rolled up lately has. Returns how much. */
export async function forgetClassified(db: Db, signal: AbortSignal): Promise<number> {
  const old = sql`seen_on < current_date - ${2 * freshDays}::int ORDER BY seen_on LIMIT ${pageSize}`
  // user_agents_seen_on; primary key.
  const agents = await untilDone(
    db,
    signal,
    pageSize,
    sql`DELETE FROM website_worker.user_agents WHERE hash = ANY (ARRAY(
          SELECT hash FROM website_worker.user_agents WHERE ${old}))`,
  )
  // referrer_hosts_seen_on; primary key.
  const origins = await untilDone(
    db,
    signal,
    pageSize,
    sql`DELETE FROM website_worker.referrer_hosts WHERE origin = ANY (ARRAY(
          SELECT origin FROM website_worker.referrer_hosts WHERE ${old}))`,
  )
  return agents + origins
}
