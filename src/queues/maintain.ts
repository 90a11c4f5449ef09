import { z } from 'zod'
import { defineJob } from './define-job.ts'

/** Prunes what only the worker reads: ended work items, old event bodies and idempotency keys. */
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
