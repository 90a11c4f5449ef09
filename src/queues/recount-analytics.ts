import { z } from 'zod'
import { defineJob } from './define-job.ts'

const minute = 60_000

/** Counts some days and hours of every site again from raw rows, by other means, and has computed anew what differs. */
export const recountAnalytics = defineJob({
  name: 'recount-analytics',
  domain: 'rollups',
  schema: z.strictObject({}),
  key: [],
  scope: 'ops',
  retry: { waitsMs: [0, minute, 10 * minute, 60 * minute], jitter: 0.2 },
  leaseMs: 60_000,
  worker: { concurrency: 1 },
  schedule: { everySeconds: 86_400 },
})
