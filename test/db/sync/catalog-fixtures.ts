import { randomUUID } from 'node:crypto'
import { eq, sql } from 'drizzle-orm'
import { transact, type Db } from '../../../src/db/client.ts'
import { registerJobs } from '../../../src/db/queries/enqueue.ts'
import type { ApplyCounts, SyncRun } from '../../../src/db/queries/sync/run.ts'
import { keepPage, unpackPage } from '../../../src/db/queries/sync/staging.ts'
import {
  productChanges,
  syncQuarantine,
  websiteCartItems,
  websiteCarts,
  websiteCategories,
  websiteProducts,
  websiteProductVariants,
} from '../../../src/db/schema/index.ts'
import type { ErpProduct, ErpReject, ErpTombstone } from '../../../src/erp.ts'
import { createProductStream } from '../../../src/processors/sync/products.ts'
import type { StepControl, SyncStream } from '../../../src/processors/sync/stream.ts'
import { announceProducts } from '../../../src/queues/announce-products.ts'
import { createSite } from '../main-app.ts'

type Row = typeof websiteProducts.$inferSelect

/** One page of an ERP's products. */
export interface Page {
  products?: ErpProduct[]
  tombstones?: ErpTombstone[]
  rejects?: ErpReject[]
}

/** A product as an ERP says it. */
export const product = (erpId: string, sku: string, more: Partial<ErpProduct> = {}): ErpProduct => ({
  erpId,
  sku,
  name: `Product ${erpId}`,
  price: '10.00',
  version: '1',
  ...more,
})

/** Products `id-0`, `id-1` … of the SKUs `S0`, `S1` … */
export const manyProducts = (count: number, more: (at: number) => Partial<ErpProduct> = () => ({})): ErpProduct[] =>
  Array.from({ length: count }, (_, at) => product(`id-${at}`, `S${at}`, more(at)))

/** A record that can't be taken. */
export const reject = (erpId: string | null, sku: string | null, more: Partial<ErpReject> = {}): ErpReject => ({
  entity: 'product',
  erpId,
  sku,
  reason: 'price: is negative',
  snapshot: { id: erpId, sku, price: '-1' },
  ...more,
})

const patient: StepControl = { signal: new AbortController().signal, progress: () => {} }

/** A site that is synced with an ERP, and hands to change it and to look at it. */
export async function createCatalog(db: Db, stream: SyncStream = createProductStream()) {
  await registerJobs(db, [announceProducts])
  const siteId = await createSite(db)

  /** A run that has read these pages. */
  async function staged(pages: readonly Page[], options: Partial<SyncRun> = {}): Promise<SyncRun> {
    await db.execute(sql`UPDATE website_worker.sync_runs SET state = 'done' WHERE site_id = ${siteId}`)
    const token = randomUUID()
    const { rows } = await db.execute(
      sql`INSERT INTO website_worker.sync_runs (site_id, type, mode, work_id, token, lease_until, source)
          VALUES (${siteId}, 'product', 'full', 1, ${token}::uuid, now() + interval '1 hour', 'test') RETURNING id`,
    )
    const run: SyncRun = {
      runId: Number(rows[0]!.id),
      siteId,
      type: 'product',
      mode: 'full',
      token,
      force: false,
      isFirst: false,
      hasPriceStream: false,
      pushesOrders: false,
      fields: null,
      appliedThrough: 0,
      ...options,
    }
    let next = 1
    for (const { products = [], tombstones = [], rejects = [] } of pages) {
      const records = { products, tombstones, rejects, levels: [], prices: [] }
      next = await transact(db, async (tx) => {
        const after = await keepPage(tx, run, stream.rows(records), next)
        await unpackPage(tx, run)
        return after
      })
    }
    return run
  }

  const rows = (): Promise<Row[]> =>
    db.select().from(websiteProducts).where(eq(websiteProducts.siteId, siteId)).orderBy(websiteProducts.id)

  return {
    siteId,
    stream,
    staged,
    rows,
    apply: (run: SyncRun, control: StepControl = patient): Promise<ApplyCounts> => stream.apply(db, run, control),
    /** Reads pages and applies them. */
    sync: async (pages: readonly Page[], options: Partial<SyncRun> = {}): Promise<ApplyCounts> =>
      stream.apply(db, await staged(pages, options), patient),
    /** Reads products on one page and applies them. */
    full: async (products: ErpProduct[], options: Partial<SyncRun> = {}): Promise<ApplyCounts> =>
      stream.apply(db, await staged([{ products }], options), patient),
    async row(sku: string): Promise<Row> {
      const row = (await rows()).find((one) => one.sku === sku)
      if (!row) throw new Error(`the shop has no ${sku}`)
      return row
    },
    change: (sku: string, values: Partial<typeof websiteProducts.$inferInsert>) =>
      db
        .update(websiteProducts)
        .set(values)
        .where(sql`site_id = ${siteId} AND sku = ${sku}`),
    async insert(values: Partial<typeof websiteProducts.$inferInsert> & { sku: string }): Promise<number> {
      const row = { siteId, name: 'Shop name', price: '1.00', ...values }
      const [made] = await db.insert(websiteProducts).values(row).returning()
      return made!.id
    },
    category: async (slug: string): Promise<number> =>
      (await db.insert(websiteCategories).values({ siteId, name: slug, slug }).returning())[0]!.id,
    /** Slugs of a product's categories, the primary one marked. */
    async categories(sku: string): Promise<string[]> {
      const { rows: found } = await db.execute(
        sql`SELECT c.slug || CASE WHEN l.is_primary THEN '*' ELSE '' END AS slug
            FROM website_product_categories l JOIN website_categories c ON c.id = l.category_id
            JOIN website_products p ON p.id = l.product_id WHERE p.site_id = ${siteId} AND p.sku = ${sku} ORDER BY c.slug`,
      )
      return found.map((one) => one.slug as string)
    },
    async variants(sku: string) {
      const { id } = (await rows()).find((one) => one.sku === sku)!
      return db
        .select()
        .from(websiteProductVariants)
        .where(eq(websiteProductVariants.productId, id))
        .orderBy(websiteProductVariants.sku)
    },
    /** Puts a variant into a cart. */
    async putIntoCart(variantId: number): Promise<void> {
      const [cart] = await db.insert(websiteCarts).values({ siteId }).returning()
      await db
        .insert(websiteCartItems)
        .values({ cartId: cart!.id, variantId, sku: 'x', name: 'x', price: '1', subtotal: '1' })
    },
    /** ERP ids by SKU. */
    async links(): Promise<Record<string, string>> {
      const { rows: found } = await db.execute(
        sql`SELECT p.sku, l.erp_id FROM website_worker.erp_ids l JOIN website_products p ON p.id = l.row_id
            WHERE l.site_id = ${siteId} ORDER BY p.sku`,
      )
      return Object.fromEntries(found.map((one) => [one.sku as string, one.erp_id as string]))
    },
    quarantine: () =>
      db.select().from(syncQuarantine).where(eq(syncQuarantine.siteId, siteId)).orderBy(syncQuarantine.id),
    async logs() {
      const { rows: found } = await db.execute(
        sql`SELECT entity_type, entity_id, status, error_message FROM website_sync_logs WHERE site_id = ${siteId} ORDER BY id`,
      )
      return found
    },
    /** What is noted for product.updated since the last look, by SKU. */
    async changes(): Promise<Record<string, string[]>> {
      const noted = await db.delete(productChanges).where(eq(productChanges.siteId, siteId)).returning()
      const skus = new Map((await rows()).map((row) => [row.id, row.sku]))
      const words: Record<string, string[]> = {}
      for (const { productId, changed } of noted) {
        const sku = skus.get(productId)!
        words[sku] = [...new Set([...(words[sku] ?? []), ...changed])].toSorted()
      }
      return words
    },
    /** Which transaction wrote each row last, and how far the serials are. */
    async traces() {
      const { rows: written } = await db.execute(
        sql`SELECT 'p' || id || ' ' || xmin AS trace FROM website_products UNION ALL
            SELECT 'v' || id || ' ' || xmin FROM website_product_variants UNION ALL
            SELECT 'c' || id || ' ' || xmin FROM website_product_categories UNION ALL
            SELECT 'l' || id || ' ' || xmin FROM website_sync_logs UNION ALL
            SELECT 'k' || product_id || ' ' || xmin FROM website_worker.erp_products UNION ALL
            SELECT 'i' || row_id || ' ' || xmin FROM website_worker.erp_ids UNION ALL
            SELECT 'q' || id || ' ' || xmin FROM website_worker.sync_quarantine ORDER BY 1`,
      )
      const { rows: serials } = await db.execute(
        sql`SELECT sequencename, last_value FROM pg_sequences
            WHERE sequencename ~ '^website_(product|sync)' ORDER BY sequencename`,
      )
      return { written: written.map((one) => one.trace), serials }
    },
  }
}

export type Catalog = Awaited<ReturnType<typeof createCatalog>>
