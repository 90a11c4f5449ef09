import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../client.ts'

/** A hash over a site's integrations of a type, whatever their timestamps say: another one when any of them changed. */
export const integrationsSeen = (siteId: SQL, type: SQL) =>
  // idx_website_integrations_site_id.
  sql`(SELECT md5(coalesce(string_agg(concat_ws('|', n.id, n.provider, n.is_active, n.is_default, n.config), ',' ORDER BY n.id), ''))
       FROM public.website_integrations n WHERE n.site_id = ${siteId} AND n.type = ${type})`

export interface IntegrationFault {
  siteId: number | null
  type: 'crm' | 'email'
  /** Null when the site has none. */
  integrationId: number | null
  /** For people. */
  error: string
  /** What the site's integrations were when they were judged. */
  seen: string
}

/** Notes why a site's CRM or mail server can't be used; what is held for that waits until the note is gone. */
export async function noteFault(db: Db, fault: IntegrationFault): Promise<void> {
  // Primary key.
  await db.execute(
    sql`INSERT INTO website_worker.integration_faults AS f (site_id, type, integration_id, error, seen)
        VALUES (${fault.siteId ?? 0}, ${fault.type}, ${fault.integrationId}, ${fault.error}, ${fault.seen})
        ON CONFLICT (site_id, type) DO UPDATE SET integration_id = excluded.integration_id, error = excluded.error,
          seen = excluded.seen, checked_at = now(), since = CASE WHEN f.error = excluded.error THEN f.since ELSE now() END`,
  )
}

/** Forgets that a site's CRM or mail server could not be used. */
export async function clearFault(db: Db, siteId: number | null, type: 'crm' | 'email'): Promise<void> {
  // Primary key.
  await db.execute(sql`DELETE FROM website_worker.integration_faults WHERE site_id = ${siteId ?? 0} AND type = ${type}`)
}
