import { boolean, foreignKey, index, integer, jsonb, pgTable, serial, text, varchar } from 'drizzle-orm/pg-core'
import { oneOf, utc, utcNow } from './columns.ts'
import { websiteSites } from './sites.ts'

/** Events that webhooks can subscribe to. */
export const webhookEvents = [
  'order.created',
  'order.updated',
  'payment.succeeded',
  'payment.failed',
  'content.published',
  'product.updated',
  'customer.created',
] as const

const integrationTypes = ['payment', 'shipping', 'analytics', 'crm', 'email'] as const
const syncTypes = ['product', 'inventory', 'customer', 'order', 'price'] as const
const syncLogStatuses = ['success', 'error', 'pending'] as const

/** Webhooks: one target URL for one event of one site. */
export const websiteWebhooks = pgTable(
  'website_webhooks',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    name: varchar('name', { length: 255 }).notNull(),
    event: varchar('event', { length: 100, enum: webhookEvents }).notNull(),
    targetUrl: text('target_url').notNull(),
    secret: varchar('secret', { length: 255 }).notNull(),
    headers: jsonb('headers').default({}),
    isActive: boolean('is_active').default(true),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    oneOf('website_webhooks', 'event', webhookEvents),
    foreignKey({
      name: 'website_webhooks_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    index('idx_website_webhooks_site_id').on(t.siteId),
    index('idx_website_webhooks_event').on(t.event),
    index('idx_website_webhooks_is_active').on(t.isActive),
  ],
)

/** The ledger: one row per webhook and event. */
export const websiteWebhookDeliveries = pgTable(
  'website_webhook_deliveries',
  {
    id: serial('id').primaryKey(),
    webhookId: integer('webhook_id'),
    eventId: varchar('event_id', { length: 255 }),
    statusCode: integer('status_code'),
    responseBody: text('response_body'),
    errorMessage: text('error_message'),
    attempts: integer('attempts').default(1),
    deliveredAt: utc('delivered_at'),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_webhook_deliveries_webhook_id_fkey',
      columns: [t.webhookId],
      foreignColumns: [websiteWebhooks.id],
    }).onDelete('cascade'),
    index('idx_website_webhook_deliveries_webhook_id').on(t.webhookId),
    index('idx_website_webhook_deliveries_status_code').on(t.statusCode),
    index('idx_website_webhook_deliveries_created_at').on(t.createdAt),
  ],
)

/** Settings of payment, shipping, analytics, CRM and email providers. */
export const websiteIntegrations = pgTable(
  'website_integrations',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    type: varchar('type', { length: 50, enum: integrationTypes }).notNull(),
    provider: varchar('provider', { length: 100 }).notNull(),
    name: varchar('name', { length: 255 }).notNull(),
    config: jsonb('config').notNull(),
    isActive: boolean('is_active').default(true),
    isDefault: boolean('is_default').default(false),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    oneOf('website_integrations', 'type', integrationTypes),
    foreignKey({
      name: 'website_integrations_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    index('idx_website_integrations_site_id').on(t.siteId),
    index('idx_website_integrations_type').on(t.type),
    index('idx_website_integrations_is_active').on(t.isActive),
  ],
)

/** What ERP syncs did. */
export const websiteSyncLogs = pgTable(
  'website_sync_logs',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    syncType: varchar('sync_type', { length: 50, enum: syncTypes }).notNull(),
    entityType: varchar('entity_type', { length: 50 }),
    entityId: integer('entity_id'),
    status: varchar('status', { length: 20, enum: syncLogStatuses }).default('pending'),
    errorMessage: text('error_message'),
    dataSnapshot: jsonb('data_snapshot'),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    oneOf('website_sync_logs', 'sync_type', syncTypes),
    oneOf('website_sync_logs', 'status', syncLogStatuses),
    foreignKey({
      name: 'website_sync_logs_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    index('idx_website_sync_logs_site_id').on(t.siteId),
    index('idx_website_sync_logs_sync_type').on(t.syncType),
    index('idx_website_sync_logs_status').on(t.status),
    index('idx_website_sync_logs_created_at').on(t.createdAt),
  ],
)
