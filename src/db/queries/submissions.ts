import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { integrationsSeen } from './integration-faults.ts'

/** What a submission needs of a site. */
export type IntegrationType = 'crm' | 'email'

export interface FoundIntegration {
  id: number
  name: string
  provider: string
  config: unknown
}

/** A submission with its form, its site and what it is for. */
export interface Submission {
  submissionId: number
  data: unknown
  status: string | null
  formId: number
  form: string
  siteId: number | null
  site: string | null
  settings: unknown
  crmLeadEnabled: boolean
  emailNotifications: boolean
  notificationEmails: string[]
  /** Why nothing may be done for it now. */
  closed: 'form inactive' | 'form deleted' | 'site inactive' | 'site deleted' | null
  /** The active one, the default first; null when the site has none. */
  integration: FoundIntegration | null
  /** The site's integrations of the type as they were read. */
  seen: string
  /** It was noted that the site's integration can't be used. */
  isFaulty: boolean
}

/** Reads a submission; undefined when it, or its form, is gone. */
export async function findSubmission(
  db: Db,
  submissionId: number,
  type: IntegrationType,
): Promise<Submission | undefined> {
  // Primary keys; idx_website_integrations_site_id.
  const { rows } = await db.execute(
    sql`SELECT s.id AS "submissionId", s.data, s.status, f.id AS "formId", f.name AS form, f.site_id AS "siteId",
          p.name AS site, f.settings, coalesce(f.crm_lead_enabled, false) AS "crmLeadEnabled",
          coalesce(f.email_notifications, false) AS "emailNotifications",
          coalesce(f.notification_emails, '{}') AS "notificationEmails",
          CASE WHEN p.deleted_at IS NOT NULL THEN 'site deleted' WHEN p.status = 'inactive' THEN 'site inactive'
               WHEN f.deleted_at IS NOT NULL THEN 'form deleted' WHEN f.is_active IS NOT TRUE THEN 'form inactive' END AS closed,
          i.integration, x.site_id IS NOT NULL AS "isFaulty", ${integrationsSeen(sql`f.site_id`, sql`${type}::text`)} AS seen
        FROM public.website_form_submissions s
        JOIN public.website_forms f ON f.id = s.form_id
        LEFT JOIN public.website_sites p ON p.id = f.site_id
        LEFT JOIN LATERAL (
          SELECT jsonb_build_object('id', i.id, 'name', i.name, 'provider', i.provider, 'config', i.config) AS integration
          FROM public.website_integrations i
          WHERE i.site_id = f.site_id AND i.type = ${type} AND i.is_active
          ORDER BY i.is_default IS TRUE DESC, i.id LIMIT 1) i ON true
        LEFT JOIN website_worker.integration_faults x ON x.site_id = coalesce(f.site_id, 0) AND x.type = ${type}
        WHERE s.id = ${submissionId}`,
  )
  return rows[0] as Submission | undefined
}

/** A row of website_integrations, whether it is active or not. */
export async function findIntegration(db: Db, id: number): Promise<FoundIntegration | undefined> {
  // Primary key.
  const { rows } = await db.execute(
    sql`SELECT i.id, i.name, i.provider, i.config FROM public.website_integrations i WHERE i.id = ${id}`,
  )
  return rows[0] as FoundIntegration | undefined
}
