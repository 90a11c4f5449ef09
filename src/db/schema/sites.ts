import { boolean, foreignKey, index, integer, jsonb, pgTable, serial, text, unique, varchar } from 'drizzle-orm/pg-core'
import { oneOf, utc, utcNow } from './columns.ts'

const siteStatuses = ['active', 'inactive', 'maintenance'] as const

/** Theme definitions with CSS variables. */
export const websiteThemes = pgTable(
  'website_themes',
  {
    id: serial('id').primaryKey(),
    name: varchar('name', { length: 255 }).notNull(),
    description: text('description'),
    isDefault: boolean('is_default').default(false),
    cssVariables: jsonb('css_variables').default({}),
    customCss: text('custom_css'),
    previewImageUrl: text('preview_image_url'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [index('idx_website_themes_is_default').on(t.isDefault)],
)

/** Sites of the installation. */
export const websiteSites = pgTable(
  'website_sites',
  {
    id: serial('id').primaryKey(),
    name: varchar('name', { length: 255 }).notNull(),
    domain: varchar('domain', { length: 255 }).notNull(),
    subdomain: varchar('subdomain', { length: 100 }),
    locale: varchar('locale', { length: 10 }).default('en'),
    timezone: varchar('timezone', { length: 50 }).default('UTC'),
    themeId: integer('theme_id'),
    settings: jsonb('settings').default({}),
    status: varchar('status', { length: 20, enum: siteStatuses }).default('active'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
    deletedAt: utc('deleted_at'),
  },
  (t) => [
    unique('website_sites_domain_key').on(t.domain),
    oneOf('website_sites', 'status', siteStatuses),
    foreignKey({ name: 'website_sites_theme_id_fkey', columns: [t.themeId], foreignColumns: [websiteThemes.id] }),
    index('idx_website_sites_domain').on(t.domain),
    index('idx_website_sites_status').on(t.status),
  ],
)

/** Domain names of sites. */
export const websiteDomains = pgTable(
  'website_domains',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    domain: varchar('domain', { length: 255 }).notNull(),
    isPrimary: boolean('is_primary').default(false),
    sslEnabled: boolean('ssl_enabled').default(true),
    sslCertificate: text('ssl_certificate'),
    sslExpiresAt: utc('ssl_expires_at'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    unique('website_domains_domain_key').on(t.domain),
    foreignKey({
      name: 'website_domains_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    index('idx_website_domains_site_id').on(t.siteId),
    index('idx_website_domains_domain').on(t.domain),
  ],
)
