import { z } from 'zod'
import { defineJob } from './define-job.ts'

const instant = z.iso.datetime({ offset: true })

/** Owes a webhook's deliveries of a span of time again, a few at a time. */
export const replayWebhook = defineJob({
  name: 'replay-webhook',
  domain: 'webhooks',
  schema: z.object({
    webhookId: z.int32().positive(),
    since: instant,
    until: instant,
    status: z.enum(['failed', 'held', 'cancelled', 'delivered']),
  }),
  key: ['webhookId', 'since', 'until', 'status'],
  subject: { field: 'webhookId', table: 'website_webhooks' },
  scope: 'none',
  retry: { waitsMs: [0, 1_000, 5_000, 30_000, 120_000, 600_000, 1_800_000], jitter: 0.2 },
  leaseMs: 30_000,
  resumable: true,
  worker: { concurrency: 5 },
})

export type ReplayWebhookPayload = z.infer<typeof replayWebhook.schema>
