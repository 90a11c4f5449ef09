import { boolean, foreignKey, index, integer, jsonb, pgTable, serial, text, unique, varchar } from 'drizzle-orm/pg-core'
import { decimal, oneOf, utc, utcNow } from './columns.ts'
import { partners } from './main-app.ts'
import { websiteOrders } from './orders.ts'
import { websiteSites } from './sites.ts'

const discountTypes = ['percentage', 'fixed'] as const

/** Discount codes and their rules. */
export const websitePromotions = pgTable(
  'website_promotions',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    code: varchar('code', { length: 100 }).notNull(),
    name: varchar('name', { length: 255 }).notNull(),
    description: text('description'),
    discountType: varchar('discount_type', { length: 20, enum: discountTypes }).notNull(),
    discountValue: decimal('discount_value').notNull(),
    minimumOrderAmount: decimal('minimum_order_amount'),
    maximumDiscountAmount: decimal('maximum_discount_amount'),
    validFrom: utc('valid_from').notNull(),
    validUntil: utc('valid_until'),
    usageLimit: integer('usage_limit'),
    usageLimitPerCustomer: integer('usage_limit_per_customer'),
    customerSegments: jsonb('customer_segments').default([]),
    productIds: integer('product_ids').array(),
    categoryIds: integer('category_ids').array(),
    isActive: boolean('is_active').default(true),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    unique('website_promotions_code_key').on(t.code),
    oneOf('website_promotions', 'discount_type', discountTypes),
    foreignKey({
      name: 'website_promotions_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    index('idx_website_promotions_site_id').on(t.siteId),
    index('idx_website_promotions_code').on(t.code),
    index('idx_website_promotions_is_active').on(t.isActive),
    index('idx_website_promotions_valid_dates').on(t.validFrom, t.validUntil),
  ],
)

/** Where a promotion was used. */
export const websitePromotionUsage = pgTable(
  'website_promotion_usage',
  {
    id: serial('id').primaryKey(),
    promotionId: integer('promotion_id'),
    orderId: integer('order_id'),
    customerId: integer('customer_id'),
    discountAmount: decimal('discount_amount').notNull(),
    usedAt: utcNow('used_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_promotion_usage_promotion_id_fkey',
      columns: [t.promotionId],
      foreignColumns: [websitePromotions.id],
    }).onDelete('cascade'),
    foreignKey({
      name: 'website_promotion_usage_order_id_fkey',
      columns: [t.orderId],
      foreignColumns: [websiteOrders.id],
    }),
    foreignKey({
      name: 'website_promotion_usage_customer_id_fkey',
      columns: [t.customerId],
      foreignColumns: [partners.id],
    }),
    index('idx_website_promotion_usage_promotion_id').on(t.promotionId),
    index('idx_website_promotion_usage_order_id').on(t.orderId),
    index('idx_website_promotion_usage_customer_id').on(t.customerId),
  ],
)
