import { z } from 'zod'
import { defineJob } from './define-job.ts'

const minute = 60_000
const hour = 60 * minute

/** Looks whether a lead that was made after an unanswered call came twice after all. */
export const checkLead = defineJob({
  name: 'check-lead',
  domain: 'leads',
  schema: z.object({ submissionId: z.int32().positive(), round: z.int32().positive() }),
  key: ['submissionId', 'round'],
  subject: { field: 'submissionId', table: 'website_form_submissions' },
  scope: 'none',
  retry: { waitsMs: [0, minute, 10 * minute, hour, 6 * hour, 24 * hour], jitter: 0.2 },
  leaseMs: 30_000,
  worker: { concurrency: 2 },
})

export type CheckLeadPayload = z.infer<typeof checkLead.schema>
