import type { JobName, Payload } from '../queues/index.ts'
import type { Processor } from './contract.ts'
import { announceProductsProcessor, type AnnounceProductsDeps } from './announce-products.ts'
import { checkLeadProcessor } from './check-lead.ts'
import { createLeadProcessor, type CreateLeadDeps } from './create-lead.ts'
import { deliverWebhookProcessor, type DeliverWebhookDeps } from './deliver-webhook.ts'
import { maintainProcessor, type MaintainDeps } from './maintain.ts'
import { pingWebhookProcessor, type PingWebhookDeps } from './ping-webhook.ts'
import { publishPageProcessor, type PublishPageDeps } from './publish-page.ts'
import { recountAnalyticsProcessor, type RecountAnalyticsDeps } from './recount-analytics.ts'
import { replayWebhookProcessor, type ReplayWebhookDeps } from './replay-webhook.ts'
import { rollUpAnalyticsProcessor, type RollUpAnalyticsDeps } from './roll-up-analytics.ts'
import { sendNotificationProcessor, type SendNotificationDeps } from './send-notification.ts'
import type { SyncDeps } from './sync/deps.ts'
import { syncInventoryProcessor } from './sync-inventory.ts'
import { syncPricesProcessor } from './sync-prices.ts'
import { syncProductsProcessor } from './sync-products.ts'

/** Everything any processor is given. */
export type ProcessorDeps = AnnounceProductsDeps &
  CreateLeadDeps &
  DeliverWebhookDeps &
  MaintainDeps &
  PingWebhookDeps &
  PublishPageDeps &
  RecountAnalyticsDeps &
  ReplayWebhookDeps &
  RollUpAnalyticsDeps &
  SendNotificationDeps &
  SyncDeps

// What `load` finds and `settle` writes is each processor's own business.
// oxlint-disable-next-line typescript/no-explicit-any
type AnyProcessor<P> = Processor<P, ProcessorDeps, any, any>

/** How each job of the catalog is done. */
export const processors: { [Name in JobName]: AnyProcessor<Payload<Name>> } = {
  'announce-products': announceProductsProcessor,
  'check-lead': checkLeadProcessor,
  'create-lead': createLeadProcessor,
  'deliver-webhook': deliverWebhookProcessor,
  maintain: maintainProcessor,
  'ping-webhook': pingWebhookProcessor,
  'publish-page': publishPageProcessor,
  'recount-analytics': recountAnalyticsProcessor,
  'replay-webhook': replayWebhookProcessor,
  'roll-up-analytics': rollUpAnalyticsProcessor,
  'send-notification': sendNotificationProcessor,
  'sync-inventory': syncInventoryProcessor,
  'sync-prices': syncPricesProcessor,
  'sync-products': syncProductsProcessor,
}
