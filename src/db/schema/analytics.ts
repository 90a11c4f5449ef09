import { foreignKey, index, inet, integer, jsonb, pgTable, serial, text, varchar } from 'drizzle-orm/pg-core'
import { utcNow } from './columns.ts'
import { websitePages } from './content.ts'
import { partners } from './main-app.ts'
import { websiteSites } from './sites.ts'

/** Page views. */
export const websitePageviews = pgTable(
  'website_pageviews',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    pageId: integer('page_id'),
    pageUrl: text('page_url').notNull(),
    pageTitle: varchar('page_title', { length: 255 }),
    referrer: text('referrer'),
    userAgent: text('user_agent'),
    ipAddress: inet('ip_address'),
    sessionId: varchar('session_id', { length: 255 }),
    customerId: integer('customer_id'),
    utmSource: varchar('utm_source', { length: 100 }),
    utmMedium: varchar('utm_medium', { length: 100 }),
    utmCampaign: varchar('utm_campaign', { length: 100 }),
    utmTerm: varchar('utm_term', { length: 100 }),
    utmContent: varchar('utm_content', { length: 100 }),
    country: varchar('country', { length: 2 }),
    deviceType: varchar('device_type', { length: 20 }),
    browser: varchar('browser', { length: 50 }),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_pageviews_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    foreignKey({ name: 'website_pageviews_page_id_fkey', columns: [t.pageId], foreignColumns: [websitePages.id] }),
    foreignKey({ name: 'website_pageviews_customer_id_fkey', columns: [t.customerId], foreignColumns: [partners.id] }),
    index('idx_website_pageviews_site_id').on(t.siteId),
    index('idx_website_pageviews_page_id').on(t.pageId),
    index('idx_website_pageviews_session_id').on(t.sessionId),
    index('idx_website_pageviews_customer_id').on(t.customerId),
    index('idx_website_pageviews_created_at').on(t.createdAt),
    index('idx_website_pageviews_utm').on(t.utmSource, t.utmMedium, t.utmCampaign),
  ],
)

/** Custom events of visitors. */
export const websiteEvents = pgTable(
  'website_events',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    eventType: varchar('event_type', { length: 100 }).notNull(),
    eventName: varchar('event_name', { length: 255 }).notNull(),
    properties: jsonb('properties').default({}),
    sessionId: varchar('session_id', { length: 255 }),
    customerId: integer('customer_id'),
    pageUrl: text('page_url'),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_events_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    foreignKey({ name: 'website_events_customer_id_fkey', columns: [t.customerId], foreignColumns: [partners.id] }),
    index('idx_website_events_site_id').on(t.siteId),
    index('idx_website_events_event_type').on(t.eventType),
    index('idx_website_events_session_id').on(t.sessionId),
    index('idx_website_events_customer_id').on(t.customerId),
    index('idx_website_events_created_at').on(t.createdAt),
  ],
)
