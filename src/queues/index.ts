import type { z } from 'zod'
import type { JobDefinition } from './define-job.ts'
import { announceProducts } from './announce-products.ts'
import { checkLead } from './check-lead.ts'
import { createLead } from './create-lead.ts'
import { deliverWebhook } from './deliver-webhook.ts'
import { maintain } from './maintain.ts'
import { pingWebhook } from './ping-webhook.ts'
import { publishPage } from './publish-page.ts'
import { recountAnalytics } from './recount-analytics.ts'
import { replayWebhook } from './replay-webhook.ts'
import { rollUpAnalytics } from './roll-up-analytics.ts'
import { sendNotification } from './send-notification.ts'
import { syncInventory } from './sync-inventory.ts'
import { syncPrices } from './sync-prices.ts'
import { syncProducts } from './sync-products.ts'

/** Every job there is. A job here without a processor of its name doesn't compile. */
export const catalog = {
  'announce-products': announceProducts,
  'check-lead': checkLead,
  'create-lead': createLead,
  'deliver-webhook': deliverWebhook,
  maintain,
  'ping-webhook': pingWebhook,
  'publish-page': publishPage,
  'recount-analytics': recountAnalytics,
  'replay-webhook': replayWebhook,
  'roll-up-analytics': rollUpAnalytics,
  'send-notification': sendNotification,
  'sync-inventory': syncInventory,
  'sync-prices': syncPrices,
  'sync-products': syncProducts,
} as const

export type JobName = keyof typeof catalog
export type Payload<Name extends JobName> = z.output<(typeof catalog)[Name]['schema']>

export interface JobSettings {
  /** Waits before each attempt of a delivery, ms. Default: the job's own. */
  webhookWaitsMs?: readonly number[] | undefined
  /** Deliveries at once in one process. Default: the job's own. */
  webhookConcurrency?: number | undefined
}

/** The catalog as this installation wants it. */
export function configureJobs(settings: JobSettings = {}): (JobDefinition & { name: JobName })[] {
  const { retry, worker } = catalog['deliver-webhook']
  return [
    catalog['announce-products'],
    catalog['check-lead'],
    catalog['create-lead'],
    {
      ...catalog['deliver-webhook'],
      retry: { ...retry, waitsMs: settings.webhookWaitsMs ?? retry.waitsMs },
      worker: { ...worker, concurrency: settings.webhookConcurrency ?? worker.concurrency },
    },
    catalog.maintain,
    catalog['ping-webhook'],
    catalog['publish-page'],
    catalog['recount-analytics'],
    catalog['replay-webhook'],
    catalog['roll-up-analytics'],
    catalog['send-notification'],
    catalog['sync-inventory'],
    catalog['sync-prices'],
    catalog['sync-products'],
  ]
}
