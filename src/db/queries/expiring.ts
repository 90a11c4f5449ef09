import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'

/** What ends soon, or ended without anyone acting; the worker only says so. */
export interface Expiring {
  certificates: { domain: string; siteId: number | null; expiresAt: string }[]
  promotions: { id: number; code: string; siteId: number | null; validUntil: string }[]
}

const mostNamed = 100

const iso = (column: string) => sql.raw(`to_char(${column}, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`)
const isEnding = (column: string, days: number) =>
  sql`${sql.raw(column)} < (now() AT TIME ZONE 'UTC') + ${sql.raw(String(days))} * interval '1 day'`

// A row a domain; a certificate that ran out matters until it is renewed.
const certificates = sql`FROM public.website_domains WHERE ssl_enabled AND ${isEnding('ssl_expires_at', 14)}`
// idx_website_promotions_is_active; one that is over is over.
const promotions = sql`
  FROM public.website_promotions
  WHERE is_active AND valid_until >= now() AT TIME ZONE 'UTC' AND ${isEnding('valid_until', 3)}`

/** Certificates that end within 14 days, or have, and active promotions that end within 3; the soonest hundred of each. */
export async function readExpiring(db: Db): Promise<Expiring> {
  const found = await db.execute(sql`
    SELECT domain, site_id AS "siteId", ${iso('ssl_expires_at')} AS "expiresAt" ${certificates}
    ORDER BY ssl_expires_at LIMIT ${mostNamed}`)
  const ending = await db.execute(sql`
    SELECT id, code, site_id AS "siteId", ${iso('valid_until')} AS "validUntil" ${promotions}
    ORDER BY valid_until LIMIT ${mostNamed}`)
  return {
    certificates: found.rows as unknown as Expiring['certificates'],
    promotions: ending.rows as unknown as Expiring['promotions'],
  }
}

/** How many there are. */
export async function countExpiring(db: Db): Promise<{ certificates: number; promotions: number }> {
  const { rows } = await db.execute<{ certificates: number; promotions: number }>(sql`
    SELECT (SELECT count(*)::int ${certificates}) AS certificates, (SELECT count(*)::int ${promotions}) AS promotions`)
  return rows[0]!
}
