import { z } from 'zod'
import { defineJob } from './define-job.ts'

const second = 1_000
const minute = 60 * second
const hour = 60 * minute

/** Makes a CRM lead of a form submission, or marks it as processed where its form has no CRM. */
export const createLead = defineJob({
  name: 'create-lead',
  domain: 'leads',
  schema: z.object({ submissionId: z.int32().positive() }),
  key: ['submissionId'],
  subject: { field: 'submissionId', table: 'website_form_submissions' },
  retry: {
    waitsMs: [0, 30 * second, 2 * minute, 5 * minute, 15 * minute, 30 * minute].concat(
      [1, 2, 4, 8, 12, 24, 24].map((hours) => hours * hour),
    ),
    jitter: 0.2,
  },
  leaseMs: 30_000,
  worker: { concurrency: 10 },
})

export type CreateLeadPayload = z.infer<typeof createLead.schema>
