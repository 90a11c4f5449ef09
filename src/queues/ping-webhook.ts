import { z } from 'zod'
import { defineJob } from './define-job.ts'

/** Sends a test message to a webhook, once. */
export const pingWebhook = defineJob({
  name: 'ping-webhook',
  domain: 'webhooks',
  schema: z.object({ webhookId: z.int32().positive() }),
  key: ['webhookId'],
  subject: { field: 'webhookId', table: 'website_webhooks' },
  scope: 'none',
  retry: { waitsMs: [0] },
  worker: { concurrency: 5 },
})

export type PingWebhookPayload = z.infer<typeof pingWebhook.schema>
