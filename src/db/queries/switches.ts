import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'

/** Why a domain's work waits at a site, or null; undefined when there is no such site. */
export async function findSwitch(
  db: Db,
  domain: string,
  siteId: number,
): Promise<{ holds: string | null } | undefined> {
  // Primary keys of sites and domains.
  const { rows } = await db.execute(
    sql`SELECT website_worker.hold_reason(${domain}, s.id) AS holds FROM public.website_sites s WHERE s.id = ${siteId}`,
  )
  return rows[0] as { holds: string | null } | undefined
}
