import { openCrm, type CrmDeps } from '../clients/crm/index.ts'
import type { CrmProvider } from '../clients/crm/provider.ts'
import type { Db } from '../db/client.ts'
import {
  beginLead,
  closeLead,
  findLead,
  recordLeads,
  recordProcessed,
  type Conversion,
  type LeadRow,
} from '../db/queries/leads.ts'
import { createSubmissionDiscovery, discoverSubmission } from '../db/queries/discover-submissions.ts'
import { findIntegration, findSubmission, type FoundIntegration, type Submission } from '../db/queries/submissions.ts'
import { AppError } from '../errors.ts'
import { createLead, type CreateLeadPayload } from '../queues/create-lead.ts'
import { nextWaitMs, type RetrySchedule } from '../queues/retry-schedule.ts'
import type { Outcome, Processor, RunContext } from './contract.ts'
import { leadOf, referenceOf } from './lead-of.ts'
import { closedBy, holdForIntegration, integrationWorks } from './submission-holds.ts'

export interface LeadSettings extends CrmDeps {
  /** One deadline over a call. */
  timeoutMs: number
  /** How long after its deadline a CRM may still be at work on a call, ms. */
  settleMs: number
  /** When late duplicates are looked for, ms after the conversion and after each look. Default: 5 minutes, 1 hour, 1 day. */
  checkWaitsMs?: readonly number[]
  /** The schedule in force, so that a CRM's `Retry-After` never shortens it. Default: the job's. */
  retry?: RetrySchedule
}

export interface CreateLeadDeps {
  db: Db
  leads: LeadSettings
}

/** When late duplicates are looked for. */
export const checkWaitsMs: readonly number[] = [300_000, 3_600_000, 86_400_000]

type Record = { kind: 'processed' } | ({ kind: 'converted' } & Omit<Conversion, 'submissionId'>)
type Context = RunContext<undefined>

/**
 * Makes a lead of a submission: one, whatever becomes of the calls. What is about to be done is written down before; a
 * call whose outcome isn't known is waited for, then searched for, and only then made again.
 */
export const createLeadProcessor: Processor<CreateLeadPayload, CreateLeadDeps, undefined, Record> = {
  async process({ submissionId }, deps, context) {
    // Discovery finds what is new; one that someone asked for may end being so before it was looked at.
    if (context.trigger !== 'discovery') await discoverSubmission(deps.db, submissionId)
    const before = await findSubmission(deps.db, submissionId, 'crm')
    if (!before) return { kind: 'failed', error: 'the submission was deleted, with or without its form' }
    const lead = await findLead(deps.db, submissionId)
    if (lead?.leadId) return converted(deps, lead.leadId, [])
    if (!lead?.isOpen && !lead?.unsure) return makeLead(deps, before, lead, context)

    const ended = await settleOpen(deps, before, lead, context)
    if (ended) return ended
    const now = await findSubmission(deps.db, submissionId, 'crm')
    if (!now) return { kind: 'failed', error: 'the submission was deleted, with or without its form' }
    return makeLead(deps, now, lead, context)
  },

  /** For the notifications too: a submission is looked at once. */
  discover: createSubmissionDiscovery(),

  async settle(tx, runs) {
    const conversions = runs.flatMap(({ payload: { submissionId }, record }) =>
      record.kind === 'converted' ? [{ submissionId, ...record }] : [],
    )
    if (conversions.length > 0) await recordLeads(tx, conversions)
    const processed = runs.flatMap(({ payload, record }) => (record.kind === 'processed' ? [payload.submissionId] : []))
    if (processed.length > 0) await recordProcessed(tx, processed)
  },
}

function converted({ leads }: CreateLeadDeps, leadId: string, duplicates: string[]): Outcome<Record> {
  const checkAfterMs = (leads.checkWaitsMs ?? checkWaitsMs)[0] ?? 0
  const result = { leadId, ...(duplicates.length > 0 && { duplicates }) }
  return { kind: 'done', result, record: { kind: 'converted', leadId, duplicates, checkAfterMs } }
}

/** Finds out what became of a call without an answer; undefined when it made nothing, and the lead can be made. */
async function settleOpen(
  deps: CreateLeadDeps,
  submission: Submission,
  lead: LeadRow,
  { attempt, signal, log }: Context,
): Promise<Outcome<Record> | undefined> {
  const { db } = deps
  if (lead.waitMs > 0) return later(`the call before may still work: waiting until a search can tell`, lead.waitMs)
  const integration = await findIntegration(db, lead.integrationId)
  if (!integration) {
    log.warn(
      { reference: lead.reference },
      'the CRM that may have this lead is no longer set up; it is made at another',
    )
    await closeLead(db, submission.submissionId, lead.attempts, true)
    return undefined
  }
  const crm = await open(deps, submission, integration)
  if (!('find' in crm)) return crm
  const search = await crm.find(lead.reference, { signal })
  if (search.kind === 'unusable') return holdForIntegration(db, submission, 'crm', integration.id, search.error)
  await integrationWorks(db, submission, 'crm')
  if (search.kind === 'unavailable')
    return again(deps.leads, attempt, `could not search for the lead: ${search.error}`, search.retryAfterMs)
  // No call makes more than one.
  if (search.leadIds.length > lead.attempts) {
    const error = `the CRM finds ${search.leadIds.length} leads of one reference after ${lead.attempts} calls: it does not search by reference`
    return holdForIntegration(db, submission, 'crm', integration.id, error)
  }
  const [leadId, ...duplicates] = search.leadIds
  if (leadId !== undefined) {
    if (duplicates.length > 0)
      log.warn({ reference: lead.reference, leadId, duplicates }, 'the CRM has this lead twice')
    return converted(deps, leadId, duplicates)
  }
  await closeLead(db, submission.submissionId, lead.attempts, true)
  return undefined
}

async function makeLead(
  deps: CreateLeadDeps,
  submission: Submission,
  lead: LeadRow | undefined,
  { attempt, signal }: Context,
): Promise<Outcome<Record>> {
  const { db, leads } = deps
  const { submissionId, integration, status } = submission
  if (status !== 'new')
    return { kind: 'done', result: { skipped: `the submission is ${status ?? 'without a status'}` } }
  if (!submission.crmLeadEnabled) return { kind: 'done', result: { processed: true }, record: { kind: 'processed' } }
  if (submission.siteId === null) return { kind: 'failed', error: 'its form belongs to no site' }
  const closed = closedBy(submission)
  if (closed) return closed
  if (!integration) {
    const error = 'the site has no active integration of type crm'
    return holdForIntegration(db, submission, 'crm', null, error)
  }
  const crm = await open(deps, submission, integration)
  if (!('create' in crm)) return crm

  const reference = referenceOf(submissionId)
  const attempts = lead?.attempts ?? 0
  const began = performance.now()
  const settledMs = leads.timeoutMs + leads.settleMs
  const isOurs = await beginLead(db, {
    submissionId,
    integrationId: integration.id,
    reference,
    attemptsSeen: attempts,
    settledMs,
  })
  if (!isOurs) return later('another run is at it', settledMs)
  // Counted from before the call was written down: it must be over when a search is said to tell.
  const timeoutMs = leads.timeoutMs - (performance.now() - began)
  const result =
    timeoutMs <= 0 || signal.aborted
      ? ({ kind: 'unmade', error: 'stopped before the call', retryAfterMs: null } as const)
      : await crm.create(leadOf(submission), { signal, timeoutMs })

  if (result.kind !== 'unusable') await integrationWorks(db, submission, 'crm')
  if (result.kind === 'made') return converted(deps, result.leadId, [])
  if (result.kind === 'unknown') {
    const waitMs = Math.max(settledMs - (performance.now() - began), result.retryAfterMs ?? 0)
    return later(`${result.error}; it may have been made: searched for before it is made again`, waitMs)
  }
  await closeLead(db, submissionId, attempts + 1, false)
  if (result.kind === 'unusable') return holdForIntegration(db, submission, 'crm', integration.id, result.error)
  if (result.kind === 'rejected') return { kind: 'failed', error: `the CRM refuses it: ${result.error}` }
  return again(leads, attempt, result.error, result.retryAfterMs)
}

/** The CRM of an integration; else the item is held, since it is set up wrongly. */
async function open(
  { db, leads }: CreateLeadDeps,
  submission: Submission,
  integration: FoundIntegration,
): Promise<CrmProvider | Outcome<never>> {
  try {
    return openCrm(integration, leads)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return holdForIntegration(db, submission, 'crm', integration.id, error.message)
  }
}

function later(error: string, waitMs: number): Outcome<never> {
  return { kind: 'retry', error, at: new Date(Date.now() + waitMs) }
}

/** By the schedule, or when the CRM asked for it if that is later. */
function again(
  { retry = createLead.retry }: LeadSettings,
  attempt: number,
  error: string,
  retryAfterMs: number | null,
): Outcome<never> {
  if (retryAfterMs === null) return { kind: 'retry', error }
  return later(error, Math.max(retryAfterMs, nextWaitMs(retry, attempt, Math.random) ?? 0))
}
