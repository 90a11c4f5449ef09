import { z } from 'zod'
import { defineJob } from './define-job.ts'

const second = 1_000
const minute = 60 * second
const hour = 60 * minute

/** Sends one event to one webhook: a row of `website_webhook_deliveries`. */
export const deliverWebhook = defineJob({
  name: 'deliver-webhook',
  domain: 'webhooks',
  schema: z.object({ deliveryId: z.number().int().positive() }),
  key: ['deliveryId'],
  subject: { field: 'deliveryId', table: 'website_webhook_deliveries' },
  scope: 'none',
  retry: {
    waitsMs: [0, 5 * second, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour],
    jitter: 0.2,
  },
  worker: { concurrency: 100 },
})

export type DeliverWebhookPayload = z.infer<typeof deliverWebhook.schema>
