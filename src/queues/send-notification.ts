import { z } from 'zod'
import { defineJob } from './define-job.ts'

const minute = 60_000
const hour = 60 * minute

/** Mails a form submission to the addresses of its form. */
export const sendNotification = defineJob({
  name: 'send-notification',
  domain: 'notifications',
  schema: z.object({ submissionId: z.int32().positive() }),
  key: ['submissionId'],
  subject: { field: 'submissionId', table: 'website_form_submissions' },
  scope: 'none',
  retry: { waitsMs: [0, minute, 5 * minute, 15 * minute, hour, 3 * hour, 6 * hour, 12 * hour, 24 * hour], jitter: 0.2 },
  leaseMs: 30_000,
  worker: { concurrency: 5 },
})

export type SendNotificationPayload = z.infer<typeof sendNotification.schema>
