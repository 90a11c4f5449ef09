import {
  bigint,
  boolean,
  foreignKey,
  index,
  integer,
  jsonb,
  pgTable,
  serial,
  text,
  unique,
  varchar,
} from 'drizzle-orm/pg-core'
import { oneOf, utc, utcNow } from './columns.ts'
import { users } from './main-app.ts'
import { websiteSites } from './sites.ts'

const pageStatuses = ['draft', 'published', 'scheduled', 'archived'] as const
const blockTypes = ['text', 'image', 'gallery', 'product', 'cta', 'form', 'video', 'heading', 'button'] as const

/** Pages with blocks and SEO metadata. */
export const websitePages = pgTable(
  'website_pages',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    slug: varchar('slug', { length: 255 }).notNull(),
    title: varchar('title', { length: 255 }).notNull(),
    template: varchar('template', { length: 50 }),
    blocks: jsonb('blocks').default([]),
    status: varchar('status', { length: 20, enum: pageStatuses }).default('draft'),
    publishAt: utc('publish_at'),
    publishedAt: utc('published_at'),
    seoTitle: varchar('seo_title', { length: 255 }),
    seoDescription: text('seo_description'),
    seoCanonicalUrl: text('seo_canonical_url'),
    seoRobots: varchar('seo_robots', { length: 100 }),
    seoKeywords: text('seo_keywords').array(),
    metaTags: jsonb('meta_tags').default({}),
    authorId: integer('author_id'),
    version: integer('version').default(1),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
    deletedAt: utc('deleted_at'),
  },
  (t) => [
    unique('website_pages_site_id_slug_key').on(t.siteId, t.slug),
    oneOf('website_pages', 'status', pageStatuses),
    foreignKey({
      name: 'website_pages_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    foreignKey({ name: 'website_pages_author_id_fkey', columns: [t.authorId], foreignColumns: [users.id] }),
    index('idx_website_pages_site_id').on(t.siteId),
    index('idx_website_pages_slug').on(t.slug),
    index('idx_website_pages_status').on(t.status),
    index('idx_website_pages_publish_at').on(t.publishAt),
    index('idx_website_pages_site_slug').on(t.siteId, t.slug),
  ],
)

/** Reusable block components. */
export const websiteBlocks = pgTable(
  'website_blocks',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    name: varchar('name', { length: 255 }).notNull(),
    type: varchar('type', { length: 50, enum: blockTypes }).notNull(),
    config: jsonb('config').default({}),
    isGlobal: boolean('is_global').default(false),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
    deletedAt: utc('deleted_at'),
  },
  (t) => [
    oneOf('website_blocks', 'type', blockTypes),
    foreignKey({
      name: 'website_blocks_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    index('idx_website_blocks_site_id').on(t.siteId),
    index('idx_website_blocks_type').on(t.type),
    index('idx_website_blocks_is_global').on(t.isGlobal),
  ],
)

/** Media library with versioning. */
export const websiteMedia = pgTable(
  'website_media',
  {
    id: serial('id').primaryKey(),
    siteId: integer('site_id'),
    name: varchar('name', { length: 255 }).notNull(),
    fileName: varchar('file_name', { length: 255 }).notNull(),
    filePath: text('file_path').notNull(),
    fileUrl: text('file_url').notNull(),
    mimeType: varchar('mime_type', { length: 100 }),
    fileSize: bigint('file_size', { mode: 'number' }),
    width: integer('width'),
    height: integer('height'),
    altText: text('alt_text'),
    description: text('description'),
    folderPath: text('folder_path'),
    versions: jsonb('versions').default([]),
    metadata: jsonb('metadata').default({}),
    uploadedBy: integer('uploaded_by'),
    createdAt: utcNow('created_at'),
    updatedAt: utcNow('updated_at'),
    deletedAt: utc('deleted_at'),
  },
  (t) => [
    foreignKey({
      name: 'website_media_site_id_fkey',
      columns: [t.siteId],
      foreignColumns: [websiteSites.id],
    }).onDelete('cascade'),
    foreignKey({ name: 'website_media_uploaded_by_fkey', columns: [t.uploadedBy], foreignColumns: [users.id] }),
    index('idx_website_media_site_id').on(t.siteId),
    index('idx_website_media_mime_type').on(t.mimeType),
    index('idx_website_media_folder_path').on(t.folderPath),
  ],
)

/** Version history of pages. */
export const websitePageVersions = pgTable(
  'website_page_versions',
  {
    id: serial('id').primaryKey(),
    pageId: integer('page_id'),
    version: integer('version').notNull(),
    title: varchar('title', { length: 255 }),
    blocks: jsonb('blocks'),
    seoTitle: varchar('seo_title', { length: 255 }),
    seoDescription: text('seo_description'),
    authorId: integer('author_id'),
    comment: text('comment'),
    createdAt: utcNow('created_at'),
  },
  (t) => [
    unique('website_page_versions_page_id_version_key').on(t.pageId, t.version),
    foreignKey({
      name: 'website_page_versions_page_id_fkey',
      columns: [t.pageId],
      foreignColumns: [websitePages.id],
    }).onDelete('cascade'),
    foreignKey({ name: 'website_page_versions_author_id_fkey', columns: [t.authorId], foreignColumns: [users.id] }),
    index('idx_website_page_versions_page_id').on(t.pageId),
    index('idx_website_page_versions_version').on(t.pageId, t.version),
  ],
)
