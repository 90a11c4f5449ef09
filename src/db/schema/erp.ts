import { sql } from 'drizzle-orm'
import {
  bigint,
  boolean,
  index,
  integer,
  jsonb,
  numeric,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core'
import { instant, workerSchema } from './worker-schema.ts'

const identity = () => bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity()
const money = (name: string) => numeric(name, { precision: 10, scale: 2 })

/** Runs of a stream of a site's ERP; one at a time. */
export const syncRuns = workerSchema.table(
  'sync_runs',
  {
    id: identity(),
    siteId: integer('site_id').notNull(),
    type: text('type', { enum: ['product', 'inventory', 'price'] }).notNull(),
    mode: text('mode', { enum: ['full', 'incremental', 'targeted'] }).notNull(),
    /** `abandoned`: broken off, and nothing of it counts. */
    state: text('state', { enum: ['running', 'done', 'failed', 'abandoned'] })
      .notNull()
      .default('running'),
    /** The work item that it is a run of. */
    workId: bigint('work_id', { mode: 'number' }).notNull(),
    /** Fencing: only who knows it writes. */
    token: uuid('token').notNull(),
    leaseUntil: instant('lease_until').notNull(),
    phase: text('phase', { enum: ['fetching', 'applying'] })
      .notNull()
      .default('fetching'),
    /** What the run was asked for: `{force, skus, audit}`. */
    options: jsonb('options').notNull().default({}),
    isFirst: boolean('is_first').notNull().default(false),
    /** Where its pages come from; a run never goes on at another ERP. */
    source: text('source').notNull(),
    since: text('since'),
    /** The page that is next; null before the first. */
    cursor: text('cursor'),
    /** Of its first page. */
    checkpoint: text('checkpoint'),
    pages: integer('pages').notNull().default(0),
    /** Rows in staging: fewer there means that the server lost them. */
    staged: integer('staged').notNull().default(0),
    rejected: integer('rejected').notNull().default(0),
    /** Staged rows up to this ordinal are applied. */
    appliedThrough: integer('applied_through').notNull().default(0),
    counts: jsonb('counts').notNull().default({}),
    error: text('error'),
    startedAt: instant('started_at').notNull().defaultNow(),
    finishedAt: instant('finished_at'),
  },
  (t) => [
    uniqueIndex('sync_runs_running')
      .on(t.siteId, t.type)
      .where(sql`state = 'running'`),
    index('sync_runs_site').on(t.siteId, t.id),
    index('sync_runs_finished')
      .on(t.finishedAt)
      .where(sql`finished_at IS NOT NULL`),
  ],
)

/** How far each stream of a site has been read, and how it fares. */
export const syncCheckpoints = workerSchema.table(
  'sync_checkpoints',
  {
    siteId: integer('site_id').notNull(),
    type: text('type').notNull(),
    source: text('source').notNull(),
    checkpoint: text('checkpoint'),
    /** When the last full run that was applied began; null before the first. */
    fullAt: instant('full_at'),
    succeededAt: instant('succeeded_at'),
    failedAt: instant('failed_at'),
    /** Of the last failure, while nothing has succeeded since. */
    error: text('error'),
    /** When that was last written to website_sync_logs. */
    loggedAt: instant('logged_at'),
    /** Rows that differed from the ERP's at the last audit. */
    drift: integer('drift'),
    auditedAt: instant('audited_at'),
    changedAt: instant('changed_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.siteId, t.type] })],
)

/** What runs have fetched and not applied yet; unlogged, since it can be fetched again. */
export const syncStaging = workerSchema.table(
  'sync_staging',
  {
    runId: bigint('run_id', { mode: 'number' }).notNull(),
    /** From 1, in the order of arrival. */
    n: integer('n').notNull(),
    /** `page`: a page that is yet to become records. */
    kind: text('kind', { enum: ['page', 'product', 'tombstone', 'level', 'price', 'reject'] }).notNull(),
    erpId: text('erp_id'),
    sku: text('sku'),
    version: numeric('version'),
    /** The record, or why it can't be taken. */
    doc: jsonb('doc'),
    quantity: integer('quantity'),
    price: money('price'),
    compareAtPrice: money('compare_at_price'),
    /** Why it can't be applied, though it is valid by itself; empty: it gives way in silence. */
    refusal: text('refusal'),
    /** All records of a page as JSON. */
    page: text('page'),
  },
  (t) => [
    primaryKey({ columns: [t.runId, t.n] }),
    uniqueIndex('sync_staging_erp_id')
      .on(t.erpId, t.runId)
      .where(sql`erp_id IS NOT NULL`),
  ],
)

/** The ERP's ids of our rows, as the ERP writes them. */
export const erpIds = workerSchema.table(
  'erp_ids',
  {
    siteId: integer('site_id').notNull(),
    /** `product`, `order` or `customer`. */
    entity: text('entity').notNull(),
    erpId: text('erp_id').notNull(),
    rowId: integer('row_id').notNull(),
  },
  (t) => [primaryKey({ columns: [t.siteId, t.entity, t.erpId] }), uniqueIndex('erp_ids_row').on(t.entity, t.rowId)],
)

/** What the ERP last said of a product, to tell its changes from the shop's. */
export const erpProducts = workerSchema.table(
  'erp_products',
  {
    productId: integer('product_id').primaryKey(),
    siteId: integer('site_id').notNull(),
    version: numeric('version').notNull(),
    /** MD5 by field of what the ERP sent: `name`, `description`, `shortDescription`, `images`, `attributes`. */
    hashes: jsonb('hashes').notNull(),
    /** `gone`: the ERP no longer has it. */
    status: text('status', { enum: ['active', 'inactive', 'draft', 'gone'] }).notNull(),
    /** The status that the row had when it last agreed with the ERP's: while it still has it, the shop has not chosen another. */
    shopStatus: text('shop_status'),
    /** SKUs of the variants that it has from the ERP. */
    variants: text('variants').array().notNull(),
    /** Slugs of the categories that it has from the ERP, the primary one first. */
    categories: text('categories').array(),
  },
  (t) => [index('erp_products_site').on(t.siteId)],
)

/** What the ERP last said of a SKU's stock, also of SKUs that the shop doesn't have yet. */
export const erpStock = workerSchema.table(
  'erp_stock',
  {
    siteId: integer('site_id').notNull(),
    sku: text('sku').notNull(),
    quantity: integer('quantity').notNull(),
    version: numeric('version').notNull(),
  },
  (t) => [primaryKey({ columns: [t.siteId, t.sku] })],
)

/** What the ERP last said of a SKU's price, also of SKUs that the shop doesn't have yet. */
export const erpPrices = workerSchema.table(
  'erp_prices',
  {
    siteId: integer('site_id').notNull(),
    sku: text('sku').notNull(),
    price: money('price').notNull(),
    compareAtPrice: money('compare_at_price'),
    /** False: the ERP never said, and it is the shop's. */
    saysCompareAt: boolean('says_compare_at').notNull().default(false),
    version: numeric('version').notNull(),
  },
  (t) => [primaryKey({ columns: [t.siteId, t.sku] })],
)

/** Variants that the ERP no longer has and that stay because carts or orders name them: their stock is 0, whatever it says. */
export const retiredVariants = workerSchema.table('retired_variants', {
  variantId: integer('variant_id').primaryKey(),
  /** The shop's, for when the ERP has it again. */
  inventoryPolicy: text('inventory_policy'),
})

/** Records that could not be taken, until the ERP sends them right. */
export const syncQuarantine = workerSchema.table(
  'sync_quarantine',
  {
    id: identity(),
    siteId: integer('site_id').notNull(),
    type: text('type').notNull(),
    entity: text('entity', { enum: ['product', 'variant'] }).notNull(),
    /** What tells records apart: the ERP's id, else the SKU, else a hash over the record. */
    key: text('key').notNull(),
    erpId: text('erp_id'),
    sku: text('sku'),
    reason: text('reason').notNull(),
    snapshot: jsonb('snapshot'),
    /** The row of website_sync_logs that tells of it. */
    logId: integer('log_id'),
    firstSeenAt: instant('first_seen_at').notNull().defaultNow(),
    lastSeenAt: instant('last_seen_at').notNull().defaultNow(),
    resolvedAt: instant('resolved_at'),
  },
  (t) => [
    uniqueIndex('sync_quarantine_open')
      .on(t.siteId, t.type, t.entity, t.key)
      .where(sql`resolved_at IS NULL`),
    index('sync_quarantine_site').on(t.siteId, t.id),
    index('sync_quarantine_resolved')
      .on(t.resolvedAt)
      .where(sql`resolved_at IS NOT NULL`),
  ],
)

/** What syncs changed and no `product.updated` tells of yet, append-only. */
export const productChanges = workerSchema.table(
  'product_changes',
  {
    id: identity(),
    siteId: integer('site_id').notNull(),
    productId: integer('product_id').notNull(),
    /** e.g. `name`, `price`, `inventory`. */
    changed: text('changed').array().notNull(),
    at: instant('at').notNull().defaultNow(),
  },
  (t) => [index('product_changes_product').on(t.siteId, t.productId)],
)

/** What the ERP, or a product marked as pending, asks to be synced; append-only until a run takes it. */
export const erpAsks = workerSchema.table(
  'erp_asks',
  {
    id: identity(),
    siteId: integer('site_id').notNull(),
    type: text('type').notNull(),
    sku: text('sku').notNull(),
    at: instant('at').notNull().defaultNow(),
  },
  (t) => [index('erp_asks_site').on(t.siteId, t.type, t.id)],
)

/** Ids of pushes from the ERP that were accepted, so that none counts twice. */
export const erpPushes = workerSchema.table(
  'erp_pushes',
  {
    id: text('id').primaryKey(),
    /** SHA-256 (hex) over what it said, to tell a repeated push from another one. */
    hash: text('hash').notNull(),
    /** The work item it was answered with. */
    job: text('job').notNull(),
    workId: bigint('work_id', { mode: 'number' }).notNull(),
    at: instant('at').notNull().defaultNow(),
  },
  (t) => [index('erp_pushes_at').on(t.at)],
)

/** What every process must know of an ERP before it calls it. */
export const erpOrigins = workerSchema.table('erp_origins', {
  origin: text('origin').primaryKey(),
  /** When the next call may begin. */
  pacedUntil: instant('paced_until'),
  /** Failures in a row. */
  failures: integer('failures').notNull().default(0),
  /** Times in a row that the breaker opened; 0 while it is closed. */
  opens: integer('opens').notNull().default(0),
  /** Until when nothing is called; after it one call, as a probe. */
  openUntil: instant('open_until'),
  changedAt: instant('changed_at').notNull().defaultNow(),
})

/** Calls in flight to an ERP, over all processes: one row for each place. */
export const erpCalls = workerSchema.table(
  'erp_calls',
  {
    origin: text('origin').notNull(),
    place: smallint('place').notNull(),
    token: uuid('token').notNull(),
    /** A process that ended meanwhile gives its place back then. */
    until: instant('until').notNull(),
  },
  (t) => [primaryKey({ columns: [t.origin, t.place] })],
)
