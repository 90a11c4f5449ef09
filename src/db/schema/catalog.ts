import { boolean, foreignKey, index, integer, jsonb, pgTable, serial, text, unique, varchar } from 'drizzle-orm/pg-core'
import { decimal, oneOf, utc, utcNow } from './columns.ts'
import { websiteSites } from './sites.ts'

const productStatuses = ['active', 'inactive', 'draft'] as const
const syncStatuses = ['synced', 'pending', 'error'] as const
const inventoryPolicies = ['deny', 'continue'] as const

/** Products synced from the ERP. */
export const websiteProducts = pgTable(
  'website_products',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    erpProductId: integer('erp_product_id'),
    sku: varchar('sku', { length: 100 }).notNull(),
    name: varchar('name', { length: 255 }).notNull(),
    description: text('description'),
    shortDescription: text('short_description'),
    price: decimal('price').notNull(),
    compareAtPrice: decimal('compare_at_price'),
    cost: decimal('cost'),
    status: varchar('status', { length: 20, enum: productStatuses }).default('active'),
    isFeatured: boolean('is_featured').default(false),
    isBestseller: boolean('is_bestseller').default(false),
    weight: decimal('weight'),
    dimensions: jsonb('dimensions'),
    attributes: jsonb('attributes').default({}),
    images: jsonb('images').default([]),
    seoTitle: varchar('seo_title', { length: 255 }),
    seoDescription: text('seo_description'),
    seoSlug: varchar('seo_slug', { length: 255 }),
    syncStatus: varchar('sync_status', { length: 20, enum: syncStatuses }).default('pending'),
    lastSyncedAt: utc('last_synced_at'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
    deletedAt: utc('deleted_at'),
  },
  (t) => [
    unique('website_products_site_id_sku_key').on(t.siteId, t.sku),
    oneOf('website_products', 'status', productStatuses),
    oneOf('website_products', 'sync_status', syncStatuses),
    foreignKey({
      name: 'website_products_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    index('idx_website_products_site_id').on(t.siteId),
    index('idx_website_products_sku').on(t.sku),
    index('idx_website_products_erp_product_id').on(t.erpProductId),
    index('idx_website_products_status').on(t.status),
    index('idx_website_products_is_featured').on(t.isFeatured),
    index('idx_website_products_sync_status').on(t.syncStatus),
  ],
)

/** Variants of products (size, colour); stock lives here only. */
export const websiteProductVariants = pgTable(
  'website_product_variants',
  {
    id: serial('id').primaryKey(),
    productId: integer('product_id'),
    sku: varchar('sku', { length: 100 }).notNull(),
    name: varchar('name', { length: 255 }),
    price: decimal('price'),
    compareAtPrice: decimal('compare_at_price'),
    attributes: jsonb('attributes').default({}),
    imageUrl: text('image_url'),
    inventoryQuantity: integer('inventory_quantity').default(0),
    inventoryPolicy: varchar('inventory_policy', { length: 20, enum: inventoryPolicies }).default('deny'),
    weight: decimal('weight'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
  },
  (t) => [
    unique('website_product_variants_product_id_sku_key').on(t.productId, t.sku),
    oneOf('website_product_variants', 'inventory_policy', inventoryPolicies),
    foreignKey({
      name: 'website_product_variants_product_id_fkey',
      columns: [t.productId],
      foreignColumns: [websiteProducts.id],
    }).onDelete('cascade'),
    index('idx_website_product_variants_product_id').on(t.productId),
    index('idx_website_product_variants_sku').on(t.sku),
  ],
)

/** Product category hierarchy. */
export const websiteCategories = pgTable(
  'website_categories',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    name: varchar('name', { length: 255 }).notNull(),
    slug: varchar('slug', { length: 255 }).notNull(),
    description: text('description'),
    parentId: integer('parent_id'),
    imageUrl: text('image_url'),
    seoTitle: varchar('seo_title', { length: 255 }),
    seoDescription: text('seo_description'),
    sortOrder: integer('sort_order').default(0),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
    deletedAt: utc('deleted_at'),
  },
  (t) => [
    unique('website_categories_site_id_slug_key').on(t.siteId, t.slug),
    foreignKey({
      name: 'website_categories_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    foreignKey({
      name: 'website_categories_parent_id_fkey',
      columns: [t.parentId],
      foreignColumns: [t.id],
    }).onDelete('set null'),
    index('idx_website_categories_site_id').on(t.siteId),
    index('idx_website_categories_parent_id').on(t.parentId),
    index('idx_website_categories_slug').on(t.slug),
  ],
)

/** Which product is in which category. */
export const websiteProductCategories = pgTable(
  'website_product_categories',
  {
    id: serial('id').primaryKey(),
    productId: integer('product_id'),
    categoryId: integer('category_id'),
    isPrimary: boolean('is_primary').default(false),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    unique('website_product_categories_product_id_category_id_key').on(t.productId, t.categoryId),
    foreignKey({
      name: 'website_product_categories_product_id_fkey',
      columns: [t.productId],
      foreignColumns: [websiteProducts.id],
    }).onDelete('cascade'),
    foreignKey({
      name: 'website_product_categories_category_id_fkey',
      columns: [t.categoryId],
      foreignColumns: [websiteCategories.id],
    }).onDelete('cascade'),
    index('idx_website_product_categories_product_id').on(t.productId),
    index('idx_website_product_categories_category_id').on(t.categoryId),
  ],
)
