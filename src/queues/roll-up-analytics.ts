import { z } from 'zod'
import { defineJob } from './define-job.ts'

const second = 1_000
const minute = 60 * second

const bound = z.union([z.iso.datetime({ offset: true }), z.iso.date()]).refine((text) => /^[12]/.test(text), {
  error: 'expected a year from 1000 to 2999',
})

/** Brings a site's analytics up to its pageviews and events; with `from` or `to` computes that span again first. */
export const rollUpAnalytics = defineJob({
  name: 'roll-up-analytics',
  domain: 'rollups',
  schema: z.object({
    siteId: z.int32().positive(),
    from: bound
      .optional()
      .describe('An instant, or the first day in the timezone of the site. Default: the beginning.'),
    to: bound.optional().describe('An instant up to which, or the last day in the timezone of the site. Default: now.'),
  }),
  key: ['siteId'],
  optionalKey: ['from', 'to'],
  subject: { field: 'siteId', table: 'website_sites' },
  retry: { waitsMs: [0, 5 * second, 30 * second, minute, 5 * minute, 15 * minute, 60 * minute], jitter: 0.2 },
  leaseMs: 15_000,
  resumable: true,
  worker: { concurrency: 2 },
})

export type RollUpAnalyticsPayload = z.infer<typeof rollUpAnalytics.schema>
