import { openCrm } from '../clients/crm/index.ts'
import { findLead, recordChecks, type LeadCheck } from '../db/queries/leads.ts'
import { findIntegration } from '../db/queries/submissions.ts'
import type { CheckLeadPayload } from '../queues/check-lead.ts'
import type { Processor } from './contract.ts'
import { checkWaitsMs, type CreateLeadDeps } from './create-lead.ts'

/** Looks for leads that an unanswered call made after all, too late to be waited for, and reports them. */
export const checkLeadProcessor: Processor<CheckLeadPayload, CreateLeadDeps, undefined, LeadCheck> = {
  async process({ submissionId, round }, { db, leads }, { signal, log }) {
    const lead = await findLead(db, submissionId)
    if (!lead?.leadId) return { kind: 'done', result: { skipped: 'there is no lead' } }
    const integration = await findIntegration(db, lead.integrationId)
    if (!integration) return { kind: 'done', result: { skipped: 'its CRM is no longer set up' } }
    const search = await openCrm(integration, leads).find(lead.reference, { signal })
    if (search.kind !== 'found') return { kind: 'retry', error: `could not look for duplicates: ${search.error}` }

    const { leadId } = lead
    const others = search.leadIds.filter((id) => id !== leadId)
    const isNews = others.some((id) => !lead.duplicates.includes(id))
    if (isNews) {
      const found = { reference: lead.reference, leadId, duplicates: others }
      log.warn(found, 'the CRM has a lead twice: an unanswered call worked late')
    }
    const waits = leads.checkWaitsMs ?? checkWaitsMs
    const againMs = waits[round] ?? null
    const record = { submissionId, round, leadId, duplicates: isNews ? others : null, againMs }
    return { kind: 'done', result: { leadId, duplicates: others }, record }
  },

  async settle(tx, runs) {
    await recordChecks(
      tx,
      runs.map((run) => run.record),
    )
  },
}
