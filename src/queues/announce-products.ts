import { z } from 'zod'
import { defineJob } from './define-job.ts'

/** Tells a site's webhooks (`product.updated`) which products its ERP changed. */
export const announceProducts = defineJob({
  name: 'announce-products',
  // Not of the webhooks' domain: where that is off, events are made all the same, and held.
  domain: 'erp',
  schema: z.object({ siteId: z.int32().positive() }),
  key: ['siteId'],
  subject: { field: 'siteId', table: 'website_sites' },
  scope: 'none',
  retry: { waitsMs: [0, 1_000, 5_000, 30_000, 120_000, 600_000, 1_800_000], jitter: 0.2 },
  leaseMs: 30_000,
  resumable: true,
  worker: { concurrency: 5 },
})

export type AnnounceProductsPayload = z.infer<typeof announceProducts.schema>
