import { z } from 'zod'
import type { SyncType } from '../erp.ts'
import { defineJob, type JobDefinition } from './define-job.ts'

const second = 1_000
const minute = 60 * second

/** Which job reads which stream. */
export const syncJobs = {
  product: 'sync-products',
  inventory: 'sync-inventory',
  price: 'sync-prices',
} as const satisfies Record<SyncType, string>

const sku = z.string().min(1).max(100)

const schema = z
  .object({
    siteId: z.int32().positive(),
    mode: z
      .enum(['incremental', 'full'])
      .optional()
      .describe('Default: what changed since the last run; everything where nothing was read before.'),
    skus: z.array(sku).min(1).max(1_000).optional().describe('Only these. Default: all.'),
    force: z.boolean().optional().describe('Also when it would change more than the brake lets pass.'),
    asked: z.literal(true).optional().describe('Only what the ERP, or a product marked as pending, asked for.'),
    audit: z.literal(true).optional().describe('Reads everything and compares; writes nothing.'),
  })
  .refine(
    ({ mode, skus, asked, audit }) =>
      !(skus || asked || audit) || mode === undefined || (audit && !skus && mode === 'full'),
    {
      path: ['mode'],
      message: 'Leave it out: what is read is given by skus, asked or audit',
    },
  )
  .refine(({ skus, asked, audit }) => [skus, asked, audit].filter(Boolean).length <= 1, {
    path: ['skus'],
    message: 'Only one of skus, asked and audit is possible',
  })

export type SyncPayload = z.infer<typeof schema>

/** A job that reads one stream of a site's ERP; runs of one site take turns, whatever was asked for. */
export function defineSyncJob<const Name extends string>(name: Name): JobDefinition<Name, typeof schema> {
  return defineJob({
    name,
    domain: 'erp',
    schema,
    key: ['siteId'],
    optionalKey: ['mode', 'force', 'skus', 'asked', 'audit'],
    subject: { field: 'siteId', table: 'website_sites' },
    retry: { waitsMs: [0, 30 * second, 2 * minute, 5 * minute, 15 * minute, 30 * minute, 60 * minute], jitter: 0.2 },
    leaseMs: 30_000,
    resumable: true,
    worker: { concurrency: 3 },
  })
}
