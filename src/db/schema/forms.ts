import {
  boolean,
  foreignKey,
  index,
  inet,
  integer,
  jsonb,
  pgTable,
  serial,
  text,
  unique,
  varchar,
} from 'drizzle-orm/pg-core'
import { oneOf, utc, utcNow } from './columns.ts'
import { websiteSites } from './sites.ts'

const submissionStatuses = ['new', 'processed', 'converted', 'archived'] as const

/** Form definitions. */
export const websiteForms = pgTable(
  'website_forms',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    name: varchar('name', { length: 255 }).notNull(),
    slug: varchar('slug', { length: 255 }).notNull(),
    description: text('description'),
    fields: jsonb('fields').notNull(),
    settings: jsonb('settings').default({}),
    recaptchaEnabled: boolean('recaptcha_enabled').default(true),
    crmLeadEnabled: boolean('crm_lead_enabled').default(true),
    emailNotifications: boolean('email_notifications').default(true),
    notificationEmails: text('notification_emails').array(),
    isActive: boolean('is_active').default(true),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
    deletedAt: utc('deleted_at'),
  },
  (t) => [
    unique('website_forms_site_id_slug_key').on(t.siteId, t.slug),
    foreignKey({
      name: 'website_forms_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    index('idx_website_forms_site_id').on(t.siteId),
    index('idx_website_forms_slug').on(t.slug),
    index('idx_website_forms_is_active').on(t.isActive),
  ],
)

/** What visitors sent through a form. */
export const websiteFormSubmissions = pgTable(
  'website_form_submissions',
  {
    id: serial('id').primaryKey(),
    formId: integer('form_id'),
    data: jsonb('data').notNull(),
    ipAddress: inet('ip_address'),
    userAgent: text('user_agent'),
    status: varchar('status', { length: 20, enum: submissionStatuses }).default('new'),
    crmLeadId: integer('crm_lead_id'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    oneOf('website_form_submissions', 'status', submissionStatuses),
    foreignKey({
      name: 'website_form_submissions_form_id_fkey',
      columns: [t.formId],
      foreignColumns: [websiteForms.id],
    }).onDelete('cascade'),
    index('idx_website_form_submissions_form_id').on(t.formId),
    index('idx_website_form_submissions_status').on(t.status),
    index('idx_website_form_submissions_created_at').on(t.createdAt),
  ],
)
