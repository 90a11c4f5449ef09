import { randomUUID } from 'node:crypto'
import { eq, sql } from 'drizzle-orm'
import { transact, type Db } from '../../../src/db/client.ts'
import { registerJobs } from '../../../src/db/queries/enqueue.ts'
import type { ApplyCounts, Judgement, SyncRun } from '../../../src/db/queries/sync/run.ts'
import { keepPage, unpackPage } from '../../../src/db/queries/sync/staging.ts'
import {
  productChanges,
  websiteOrderItems,
  websiteOrders,
  websiteProducts,
  websiteProductVariants,
} from '../../../src/db/schema/index.ts'
import type { ErpLevel, ErpPrice, ErpReject } from '../../../src/erp.ts'
import type { StepControl, SyncStream } from '../../../src/processors/sync/stream.ts'
import { announceProducts } from '../../../src/queues/announce-products.ts'
import { createSite } from '../main-app.ts'

type NewVariant = Partial<typeof websiteProductVariants.$inferInsert> & { sku: string; stock?: number | null }
type NewProduct = Partial<typeof websiteProducts.$inferInsert> & { sku: string; variants?: NewVariant[] }
type NewItem = Partial<typeof websiteOrderItems.$inferInsert> & { sku: string; quantity: number }

/** A page of levels or prices, or several of them. */
export type Pages = readonly (readonly (ErpLevel | ErpPrice)[])[]

const patient: StepControl = { signal: new AbortController().signal, progress: () => {} }

/** A level as an ERP says it. */
export const level = (sku: string, quantity: number, version: number | string = 1): ErpLevel => ({
  sku,
  quantity,
  version: String(version),
})

/** A price as an ERP says it; without `compareAtPrice` it is silent about that. */
export const priceOf = (
  sku: string,
  price: string,
  version: number | string = 1,
  more: Pick<ErpPrice, 'compareAtPrice'> = {},
): ErpPrice => ({ sku, price, version: String(version), ...more })

/** A site (default: a new one) with hands to fill it, to sync its stock and prices, and to look at what became of them. */
export async function createShop(db: Db, site?: number) {
  await registerJobs(db, [announceProducts])
  const siteId = site ?? (await createSite(db))

  async function product({ variants = [], ...values }: NewProduct): Promise<{ id: number; variantIds: number[] }> {
    const row = { siteId, name: values.sku, price: '10.00', ...values }
    const [made] = await db.insert(websiteProducts).values(row).returning({ id: websiteProducts.id })
    const variantIds: number[] = []
    for (const { stock = 0, ...variant } of variants) {
      const [one] = await db
        .insert(websiteProductVariants)
        .values({ productId: made!.id, inventoryQuantity: stock, ...variant })
        .returning({ id: websiteProductVariants.id })
      variantIds.push(one!.id)
    }
    return { id: made!.id, variantIds }
  }

  async function order(
    items: readonly NewItem[],
    values: Partial<typeof websiteOrders.$inferInsert> = {},
  ): Promise<number> {
    const address = {}
    const row = { siteId, orderNumber: randomUUID(), customerEmail: 'ann@example.com', total: '1', ...values }
    const [made] = await db
      .insert(websiteOrders)
      .values({ ...row, shippingAddress: address, billingAddress: address })
      .returning({ id: websiteOrders.id })
    for (const item of items) {
      const one = { orderId: made!.id, name: item.sku, price: '1', subtotal: '1', total: '1', ...item }
      await db.insert(websiteOrderItems).values(one)
    }
    return made!.id
  }

  /** A run that has read these pages and goes on with what its steps are. */
  async function staged(
    stream: SyncStream,
    pages: Pages,
    options: Partial<SyncRun> = {},
    rejects: ErpReject[] = [],
  ): Promise<SyncRun> {
    await db.execute(
      sql`UPDATE website_worker.sync_runs SET state = 'done' WHERE site_id = ${siteId} AND type = ${stream.type}`,
    )
    const token = randomUUID()
    const { rows } = await db.execute(
      sql`INSERT INTO website_worker.sync_runs (site_id, type, mode, work_id, token, lease_until, source)
          VALUES (${siteId}, ${stream.type}, 'full', 1, ${token}::uuid, now() + interval '1 hour', 'test') RETURNING id`,
    )
    const run: SyncRun = {
      runId: Number(rows[0]!.id),
      siteId,
      type: stream.type,
      mode: 'full',
      token,
      force: false,
      isFirst: false,
      hasPriceStream: true,
      pushesOrders: false,
      fields: null,
      appliedThrough: 0,
      ...options,
    }
    let next = 1
    for (const page of pages) {
      const records = {
        products: [],
        tombstones: [],
        rejects: page === pages.at(-1) ? rejects : [],
        levels: page as ErpLevel[],
        prices: page as ErpPrice[],
      }
      next = await transact(db, async (tx) => {
        const after = await keepPage(tx, run, stream.rows(records), next)
        await unpackPage(tx, run)
        return after
      })
    }
    return run
  }

  return {
    siteId,
    product,
    order,
    staged,
    /** Reads pages, judges and applies them. */
    async sync(
      stream: SyncStream,
      pages: Pages,
      options: Partial<SyncRun> = {},
      rejects: ErpReject[] = [],
    ): Promise<ApplyCounts> {
      return stream.apply(db, await staged(stream, pages, options, rejects), patient)
    },
    async judge(stream: SyncStream, pages: Pages, options: Partial<SyncRun> = {}): Promise<Judgement> {
      return stream.judge(db, await staged(stream, pages, options))
    },
    async audit(stream: SyncStream, pages: Pages, options: Partial<SyncRun> = {}) {
      return stream.audit(db, await staged(stream, pages, options))
    },
    /** What variants show, by SKU; several of one SKU in the order of their ids. */
    async stock(): Promise<Record<string, number | null | (number | null)[]>> {
      const { rows } = await db.execute(
        sql`SELECT v.sku, json_agg(v.inventory_quantity ORDER BY v.id) AS stock
            FROM website_product_variants v JOIN website_products p ON p.id = v.product_id
            WHERE p.site_id = ${siteId} GROUP BY v.sku ORDER BY v.sku`,
      )
      return Object.fromEntries(
        (rows as { sku: string; stock: number[] }[]).map(({ sku, stock }) => [
          sku,
          stock.length > 1 ? stock : stock[0]!,
        ]),
      )
    },
    /** Prices and compare-at prices of products (`sku`) and variants (`product/sku`). */
    async prices(): Promise<Record<string, [string | null, string | null]>> {
      const { rows } = await db.execute(
        sql`SELECT p.sku AS name, p.price, p.compare_at_price AS compare FROM website_products p WHERE p.site_id = ${siteId}
            UNION ALL
            SELECT p.sku || '/' || v.sku, v.price, v.compare_at_price
            FROM website_product_variants v JOIN website_products p ON p.id = v.product_id WHERE p.site_id = ${siteId}
            ORDER BY 1`,
      )
      return Object.fromEntries(
        (rows as { name: string; price: string; compare: string }[]).map((row) => [row.name, [row.price, row.compare]]),
      )
    },
    /** What is noted for product.updated, by product. */
    async changes(): Promise<Record<number, string[]>> {
      const rows = await db.select().from(productChanges).where(eq(productChanges.siteId, siteId))
      const words: Record<number, string[]> = {}
      for (const row of rows) words[row.productId] = [...(words[row.productId] ?? []), ...row.changed].toSorted()
      return words
    },
    /** Which transaction wrote each row last. */
    async writers(): Promise<string[]> {
      const { rows } = await db.execute(
        sql`SELECT 'p' || id AS row, xmin::text FROM website_products UNION ALL
            SELECT 'v' || id, xmin::text FROM website_product_variants UNION ALL
            SELECT 's' || sku, xmin::text FROM website_worker.erp_stock UNION ALL
            SELECT 'e' || sku, xmin::text FROM website_worker.erp_prices ORDER BY 1`,
      )
      return rows.map((row) => `${row.row} ${row.xmin}`)
    },
  }
}

export type Shop = Awaited<ReturnType<typeof createShop>>
