import { sql } from 'drizzle-orm'
import { foreignKey, index, integer, jsonb, pgTable, serial, text, unique, varchar } from 'drizzle-orm/pg-core'
import { websiteProducts, websiteProductVariants } from './catalog.ts'
import { decimal, oneOf, utc, utcNow } from './columns.ts'
import { partners, users } from './main-app.ts'
import { websiteSites } from './sites.ts'

const orderStatuses = ['pending', 'processing', 'paid', 'shipped', 'delivered', 'cancelled', 'refunded'] as const
const paymentStatuses = ['pending', 'paid', 'failed', 'refunded', 'partial'] as const
const shippingStatuses = ['pending', 'processing', 'shipped', 'delivered', 'cancelled'] as const

const amount = (name: string) => decimal(name).default(sql`0`)

/** Shopping carts. */
export const websiteCarts = pgTable(
  'website_carts',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    sessionId: varchar('session_id', { length: 255 }),
    customerId: integer('customer_id'),
    currency: varchar('currency', { length: 10 }).default('USD'),
    subtotal: amount('subtotal'),
    taxAmount: amount('tax_amount'),
    shippingAmount: amount('shipping_amount'),
    discountAmount: amount('discount_amount'),
    total: amount('total'),
    promotionCode: varchar('promotion_code', { length: 50 }),
    expiresAt: utc('expires_at'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_carts_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    foreignKey({ name: 'website_carts_customer_id_fkey', columns: [t.customerId], foreignColumns: [partners.id] }),
    index('idx_website_carts_site_id').on(t.siteId),
    index('idx_website_carts_session_id').on(t.sessionId),
    index('idx_website_carts_customer_id').on(t.customerId),
    index('idx_website_carts_expires_at').on(t.expiresAt),
  ],
)

/** Lines of carts. */
export const websiteCartItems = pgTable(
  'website_cart_items',
  {
    id: serial('id').primaryKey(),
    cartId: integer('cart_id'),
    productId: integer('product_id'),
    variantId: integer('variant_id'),
    sku: varchar('sku', { length: 100 }).notNull(),
    name: varchar('name', { length: 255 }).notNull(),
    quantity: integer('quantity').notNull().default(1),
    price: decimal('price').notNull(),
    subtotal: decimal('subtotal').notNull(),
    attributes: jsonb('attributes').default({}),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_cart_items_cart_id_fkey',
      columns: [t.cartId],
      foreignColumns: [websiteCarts.id],
    }).onDelete('cascade'),
    foreignKey({
      name: 'website_cart_items_product_id_fkey',
      columns: [t.productId],
      foreignColumns: [websiteProducts.id],
    }),
    foreignKey({
      name: 'website_cart_items_variant_id_fkey',
      columns: [t.variantId],
      foreignColumns: [websiteProductVariants.id],
    }),
    index('idx_website_cart_items_cart_id').on(t.cartId),
    index('idx_website_cart_items_product_id').on(t.productId),
  ],
)

/** Orders, linked to the ERP's. */
export const websiteOrders = pgTable(
  'website_orders',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    orderNumber: varchar('order_number', { length: 100 }).notNull(),
    erpOrderId: integer('erp_order_id'),
    erpOrderRef: varchar('erp_order_ref', { length: 100 }),
    customerId: integer('customer_id'),
    customerEmail: varchar('customer_email', { length: 255 }).notNull(),
    status: varchar('status', { length: 50, enum: orderStatuses }).default('pending'),
    paymentStatus: varchar('payment_status', { length: 50, enum: paymentStatuses }).default('pending'),
    shippingStatus: varchar('shipping_status', { length: 50, enum: shippingStatuses }).default('pending'),
    currency: varchar('currency', { length: 10 }).default('USD'),
    subtotal: amount('subtotal'),
    taxAmount: amount('tax_amount'),
    shippingAmount: amount('shipping_amount'),
    discountAmount: amount('discount_amount'),
    total: decimal('total').notNull(),
    promotionCode: varchar('promotion_code', { length: 50 }),
    shippingAddress: jsonb('shipping_address').notNull(),
    billingAddress: jsonb('billing_address').notNull(),
    shippingMethod: varchar('shipping_method', { length: 100 }),
    paymentMethod: varchar('payment_method', { length: 100 }),
    paymentReference: varchar('payment_reference', { length: 255 }),
    trackingNumber: varchar('tracking_number', { length: 255 }),
    notes: text('notes'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    unique('website_orders_order_number_key').on(t.orderNumber),
    oneOf('website_orders', 'status', orderStatuses),
    oneOf('website_orders', 'payment_status', paymentStatuses),
    oneOf('website_orders', 'shipping_status', shippingStatuses),
    foreignKey({
      name: 'website_orders_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    foreignKey({ name: 'website_orders_customer_id_fkey', columns: [t.customerId], foreignColumns: [partners.id] }),
    index('idx_website_orders_site_id').on(t.siteId),
    index('idx_website_orders_order_number').on(t.orderNumber),
    index('idx_website_orders_erp_order_id').on(t.erpOrderId),
    index('idx_website_orders_customer_id').on(t.customerId),
    index('idx_website_orders_customer_email').on(t.customerEmail),
    index('idx_website_orders_status').on(t.status),
    index('idx_website_orders_created_at').on(t.createdAt),
  ],
)

/** Lines of orders, with a snapshot of the product. */
export const websiteOrderItems = pgTable(
  'website_order_items',
  {
    id: serial('id').primaryKey(),
    orderId: integer('order_id'),
    productId: integer('product_id'),
    variantId: integer('variant_id'),
    sku: varchar('sku', { length: 100 }).notNull(),
    name: varchar('name', { length: 255 }).notNull(),
    quantity: integer('quantity').notNull(),
    price: decimal('price').notNull(),
    subtotal: decimal('subtotal').notNull(),
    taxAmount: amount('tax_amount'),
    total: decimal('total').notNull(),
    attributes: jsonb('attributes').default({}),
    productSnapshot: jsonb('product_snapshot'),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_order_items_order_id_fkey',
      columns: [t.orderId],
      foreignColumns: [websiteOrders.id],
    }).onDelete('cascade'),
    foreignKey({
      name: 'website_order_items_product_id_fkey',
      columns: [t.productId],
      foreignColumns: [websiteProducts.id],
    }),
    foreignKey({
      name: 'website_order_items_variant_id_fkey',
      columns: [t.variantId],
      foreignColumns: [websiteProductVariants.id],
    }),
    index('idx_website_order_items_order_id').on(t.orderId),
    index('idx_website_order_items_product_id').on(t.productId),
  ],
)

/** What happened to an order, and who did it. */
export const websiteOrderStatusHistory = pgTable(
  'website_order_status_history',
  {
    id: serial('id').primaryKey(),
    orderId: integer('order_id'),
    status: varchar('status', { length: 50 }).notNull(),
    paymentStatus: varchar('payment_status', { length: 50 }),
    shippingStatus: varchar('shipping_status', { length: 50 }),
    notes: text('notes'),
    changedBy: integer('changed_by'),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_order_status_history_order_id_fkey',
      columns: [t.orderId],
      foreignColumns: [websiteOrders.id],
    }).onDelete('cascade'),
    foreignKey({
      name: 'website_order_status_history_changed_by_fkey',
      columns: [t.changedBy],
      foreignColumns: [users.id],
    }),
    index('idx_website_order_status_history_order_id').on(t.orderId),
    index('idx_website_order_status_history_created_at').on(t.orderId, t.createdAt),
  ],
)
