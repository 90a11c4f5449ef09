import { z } from 'zod'
import { defineJob } from './define-job.ts'

/** Prunes what is past its retention, and judges webhooks that have failed for long. */
export const maintain = defineJob({
  name: 'maintain',
  domain: 'maintenance',
  schema: z.strictObject({}),
  key: [],
  scope: 'ops',
  retry: { waitsMs: [0, 60_000, 600_000] },
  leaseMs: 60_000,
  worker: { concurrency: 1 },
  schedule: { everySeconds: 3_600 },
})
