import { foreignKey, index, inet, integer, jsonb, pgTable, serial, text, varchar } from 'drizzle-orm/pg-core'
import { utcNow } from './columns.ts'
import { users } from './main-app.ts'
import { websiteSites } from './sites.ts'

/** Who changed what. */
export const websiteAuditLogs = pgTable(
  'website_audit_logs',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    userId: integer('user_id'),
    action: varchar('action', { length: 100 }).notNull(),
    resourceType: varchar('resource_type', { length: 50 }).notNull(),
    resourceId: integer('resource_id'),
    resourceName: varchar('resource_name', { length: 255 }),
    changes: jsonb('changes'),
    ipAddress: inet('ip_address'),
    userAgent: text('user_agent'),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_audit_logs_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    foreignKey({ name: 'website_audit_logs_user_id_fkey', columns: [t.userId], foreignColumns: [users.id] }),
    index('idx_website_audit_logs_site_id').on(t.siteId),
    index('idx_website_audit_logs_user_id').on(t.userId),
    index('idx_website_audit_logs_action').on(t.action),
    index('idx_website_audit_logs_resource').on(t.resourceType, t.resourceId),
    index('idx_website_audit_logs_created_at').on(t.createdAt),
  ],
)
