import { z } from 'zod'
import type { Lead } from '../clients/crm/provider.ts'
import type { Submission } from '../db/queries/submissions.ts'
import { boundedFields, emailOf, submitted, textOf } from './submission-text.ts'

/** What a CRM finds the lead of a submission by. */
export const referenceOf = (submissionId: number) => `web:submission:${submissionId}`

const settings = z.object({ crm: z.object({ fields: z.record(z.string(), z.unknown()) }) })

/** The submitted value that a form means by a field of leads: mapped in `settings.crm.fields`, else of that name. */
export function valueOf(submission: Pick<Submission, 'data' | 'settings'>, field: string): unknown {
  const parsed = settings.safeParse(submission.settings)
  const map = parsed.success ? parsed.data.crm.fields : {}
  const mapped = Object.hasOwn(map, field) ? map[field] : undefined
  const name = typeof mapped === 'string' && mapped !== '' ? mapped : field
  const data = submitted(submission.data)
  return Object.hasOwn(data, name) ? data[name] : undefined
}

/** What a CRM is told: known fields checked and cut to size, and everything, bounded, under `fields`. */
export function leadOf(submission: Submission): Lead {
  const field = (name: string) => valueOf(submission, name)
  const known = {
    name: textOf(field('name'), 255),
    email: emailOf(field('email')),
    phone: textOf(field('phone'), 64),
    company: textOf(field('company'), 255),
    message: textOf(field('message'), 20_000, true),
  }
  return {
    reference: referenceOf(submission.submissionId),
    siteId: submission.siteId,
    form: textOf(submission.form, 255) ?? '',
    ...Object.fromEntries(Object.entries(known).filter(([, value]) => value !== undefined)),
    fields: boundedFields(submission.data),
  }
}
