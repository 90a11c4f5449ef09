import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'

/** How far the lead of a submission has come. */
export interface LeadRow {
  integrationId: number
  reference: string
  attempts: number
  leadId: string | null
  /** A call's outcome isn't known. */
  isOpen: boolean
  /** One that a search knew nothing of could still work, late. */
  unsure: boolean
  /** How long until a search would tell it, ms; 0 when it would now. */
  waitMs: number
  /** Other leads with its reference. */
  duplicates: string[]
}

/** Reads how far a lead has come; undefined before its first call. */
export async function findLead(db: Db, submissionId: number): Promise<LeadRow | undefined> {
  // Primary key.
  const { rows } = await db.execute(
    sql`SELECT l.integration_id AS "integrationId", l.reference, l.attempts, l.lead_id AS "leadId", l.unsure,
          l.search_from IS NOT NULL AS "isOpen", coalesce(l.duplicates, '{}') AS duplicates,
          ceil(greatest(0, coalesce(extract(epoch FROM l.search_from - now()) * 1000, 0)))::float8 AS "waitMs"
        FROM website_worker.crm_leads l WHERE l.submission_id = ${submissionId}`,
  )
  return rows[0] as LeadRow | undefined
}

export interface LeadCall {
  submissionId: number
  integrationId: number
  reference: string
  /** `attempts` as it was read: of two runs that read the same, one goes on. */
  attemptsSeen: number
  /** After this long the CRM has certainly done with the call, ms. */
  settledMs: number
}

/** Writes down that a lead is about to be made; false when another run was first, or it is made already. */
export async function beginLead(db: Db, call: LeadCall): Promise<boolean> {
  const { submissionId, integrationId, reference, attemptsSeen, settledMs } = call
  const settled = sql`now() + ${settledMs} * interval '1 ms'`
  // Primary key.
  const { rowCount } = await db.execute(
    sql`INSERT INTO website_worker.crm_leads AS l (submission_id, integration_id, reference, attempts, search_from)
        SELECT ${submissionId}, ${integrationId}, ${reference}, 1, ${settled}
        WHERE ${attemptsSeen} = 0 OR EXISTS (SELECT FROM website_worker.crm_leads WHERE submission_id = ${submissionId})
        ON CONFLICT (submission_id) DO UPDATE
        SET integration_id = excluded.integration_id, reference = excluded.reference, attempts = l.attempts + 1,
          attempted_at = now(), search_from = excluded.search_from
        WHERE l.attempts = ${attemptsSeen} AND l.lead_id IS NULL AND l.search_from IS NULL`,
  )
  return rowCount === 1
}

/**
 * Notes that the call with this number made no lead: surely not, or (`unsure`) because a search found none, so that it
 * could still work late.
 */
export async function closeLead(db: Db, submissionId: number, attempts: number, unsure: boolean): Promise<void> {
  // Primary key.
  await db.execute(
    sql`UPDATE website_worker.crm_leads SET search_from = NULL, unsure = unsure OR ${unsure}
        WHERE submission_id = ${submissionId} AND attempts = ${attempts} AND lead_id IS NULL`,
  )
}

/** A submission that became a lead. */
export interface Conversion {
  submissionId: number
  leadId: string
  /** Other leads that a search found by its reference. */
  duplicates: string[]
  /** When late duplicates are looked for first, ms from now. */
  checkAfterMs: number
}

/** Writes down what submissions became; those that may yet become two are owed a look. */
export async function recordLeads(tx: Tx, conversions: readonly Conversion[]): Promise<void> {
  const sorted = conversions.toSorted((a, b) => a.submissionId - b.submissionId)
  const json = JSON.stringify(
    sorted.map(({ submissionId: id, leadId: lead_id, duplicates, checkAfterMs: check_ms }) => ({
      id,
      lead_id,
      duplicates,
      check_ms,
    })),
  )
  // Primary keys; work_unfinished_key.
  await tx.execute(
    sql`WITH r AS MATERIALIZED (
          SELECT * FROM jsonb_to_recordset(${json}::jsonb) AS r(id int, lead_id text, duplicates text[], check_ms float8)
        ), leads AS (
          UPDATE website_worker.crm_leads l
          SET lead_id = r.lead_id, search_from = NULL, converted_at = coalesce(l.converted_at, now()),
            duplicates = CASE WHEN cardinality(r.duplicates) > 0 THEN r.duplicates ELSE l.duplicates END
          FROM r WHERE l.submission_id = r.id RETURNING l.submission_id, l.unsure, r.check_ms
        ), checks AS (
          INSERT INTO website_worker.work (job, key, site_id, payload, label, trigger, next_at)
          SELECT 'check-lead', s.id || ':1', f.site_id, jsonb_build_object('submissionId', s.id, 'round', 1),
            'check-lead ' || s.id, 'discovery', now() + l.check_ms * interval '1 ms'
          FROM leads l JOIN public.website_form_submissions s ON s.id = l.submission_id
          LEFT JOIN public.website_forms f ON f.id = s.form_id
          WHERE l.unsure ORDER BY s.id ON CONFLICT DO NOTHING
        )
        UPDATE public.website_form_submissions s
        SET status = CASE WHEN s.status = 'archived' THEN s.status ELSE 'converted' END,
          crm_lead_id = CASE WHEN r.lead_id ~ '^[1-9][0-9]{0,8}$' OR r.lead_id ~ '^[1-9][0-9]{9}$' AND r.lead_id::bigint <= 2147483647
                             THEN r.lead_id::int ELSE s.crm_lead_id END
        FROM r WHERE s.id = r.id`,
  )
  const doubled = sorted.filter((conversion) => conversion.duplicates.length > 0)
  if (doubled.length > 0) await auditDuplicates(tx, doubled)
}

/** Marks new submissions as done with, without a lead. */
export async function recordProcessed(tx: Tx, submissionIds: readonly number[]): Promise<void> {
  // Primary key.
  await tx.execute(
    sql`UPDATE public.website_form_submissions s SET status = 'processed'
        WHERE s.id = ANY (${sql.param(submissionIds)}::int[]) AND s.status = 'new'`,
  )
}

/** A look for late duplicates. */
export interface LeadCheck {
  submissionId: number
  round: number
  /** All other leads with its reference; null when nothing new was found. */
  duplicates: string[] | null
  leadId: string
  /** When to look again, ms from now; null: never. */
  againMs: number | null
}

/** Writes down what looks for duplicates found, and owes the next ones. */
export async function recordChecks(tx: Tx, checks: readonly LeadCheck[]): Promise<void> {
  const json = JSON.stringify(
    checks.map(({ submissionId: id, round, duplicates, againMs: again_ms }) => ({ id, round, duplicates, again_ms })),
  )
  // Primary keys; work_unfinished_key.
  await tx.execute(
    sql`WITH r AS MATERIALIZED (
          SELECT * FROM jsonb_to_recordset(${json}::jsonb) AS r(id int, round int, duplicates text[], again_ms float8)
        ), again AS (
          INSERT INTO website_worker.work (job, key, site_id, payload, label, trigger, next_at)
          SELECT 'check-lead', s.id || ':' || r.round + 1, f.site_id,
            jsonb_build_object('submissionId', s.id, 'round', r.round + 1), 'check-lead ' || s.id, 'discovery',
            now() + r.again_ms * interval '1 ms'
          FROM r JOIN public.website_form_submissions s ON s.id = r.id LEFT JOIN public.website_forms f ON f.id = s.form_id
          WHERE r.again_ms IS NOT NULL ORDER BY s.id ON CONFLICT DO NOTHING
        )
        UPDATE website_worker.crm_leads l SET checked_at = now(), duplicates = coalesce(r.duplicates, l.duplicates)
        FROM r WHERE l.submission_id = r.id`,
  )
  const doubled = checks.flatMap(({ duplicates, ...check }) => (duplicates ? [{ ...check, duplicates }] : []))
  if (doubled.length > 0) await auditDuplicates(tx, doubled)
}

async function auditDuplicates(
  tx: Tx,
  found: readonly { submissionId: number; leadId: string; duplicates: readonly string[] }[],
): Promise<void> {
  const json = JSON.stringify(
    found.map(({ submissionId: id, leadId: lead_id, duplicates }) => ({ id, lead_id, duplicates })),
  )
  // Primary keys.
  await tx.execute(
    sql`INSERT INTO public.website_audit_logs
          (site_id, action, resource_type, resource_id, resource_name, changes, user_agent, created_at)
        SELECT f.site_id, 'lead.duplicated', 'form_submission', s.id, left(f.name, 255),
          jsonb_build_object('reference', l.reference, 'leadId', r.lead_id, 'duplicates', r.duplicates), 'website-worker',
          now() AT TIME ZONE 'UTC'
        FROM jsonb_to_recordset(${json}::jsonb) AS r(id int, lead_id text, duplicates jsonb)
        JOIN public.website_form_submissions s ON s.id = r.id
        JOIN website_worker.crm_leads l ON l.submission_id = s.id
        LEFT JOIN public.website_forms f ON f.id = s.form_id
        ORDER BY s.id`,
  )
}
