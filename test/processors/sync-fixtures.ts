import { desc, eq, sql } from 'drizzle-orm'
import { createCredentials } from '../../src/clients/credentials.ts'
import { maxPageBytes } from '../../src/clients/erp/http.ts'
import type { ErpEnvironment } from '../../src/clients/erp/settings.ts'
import { createGuard } from '../../src/clients/guard.ts'
import { createJsonCaller } from '../../src/clients/json-call.ts'
import { enqueueItem, registerJobs } from '../../src/db/queries/enqueue.ts'
import { syncCheckpoints, syncRuns, websiteProducts, websiteSyncLogs, work } from '../../src/db/schema/index.ts'
import type { SyncDeps } from '../../src/processors/sync/deps.ts'
import { createErpOpener } from '../../src/processors/sync/site-erp.ts'
import { createErpTurns } from '../../src/processors/sync/turns.ts'
import { processors } from '../../src/processors/index.ts'
import { catalog, type JobName } from '../../src/queues/index.ts'
import { createSite } from '../db/main-app.ts'
import { startErp, type ErpOptions } from '../fixtures/erp.ts'
import { opened } from '../fixtures/open-fixtures.ts'
import { createStack, type StackOptions } from '../fixtures/stack.ts'

export interface SyncStackOptions {
  jobs: readonly JobName[]
  backend?: StackOptions['backend']
  /** Waits before attempts, ms. Default: four of 50. */
  waitsMs?: readonly number[]
  erp?: ErpOptions
  environment?: ErpEnvironment
}

const many = 1_000

/** The jobs of the sync on real services, with an ERP on loopback that sites use when their settings say so. */
export async function createSyncStack(options: SyncStackOptions) {
  const { waitsMs = [0, 50, 50, 50], environment = {} } = options
  const erp = await startErp(options.erp)
  const guard = createGuard({ allowCidrs: ['127.0.0.1/32'] })
  const caller = createJsonCaller({ guard, timeoutMs: 5_000, maxBytes: maxPageBytes })
  const closed = opened('caller')
  const rows: [string, string, number][] = []
  const calls: string[] = []
  const deps: Record<string, unknown> = {}
  const stack = await createStack({
    backend: options.backend ?? 'redis',
    jobs: options.jobs.map((name) => ({
      definition: { ...catalog[name], retry: { waitsMs } },
      processor: processors[name] as never,
    })),
    deps,
  })
  const { db } = stack
  deps['db'] = db
  await registerJobs(db, Object.values(catalog))
  deps['sync'] = {
    db,
    open: createErpOpener(environment, {
      caller,
      credentials: createCredentials(),
      turns: createErpTurns({ db }),
      userAgent: 'website-worker/test',
      firstRetryMs: 5,
    }),
    hasDefault: environment.url !== undefined,
    erpCalled: (outcome) => void calls.push(outcome),
    rowsSynced: (...row) => void rows.push(row),
  } satisfies SyncDeps['sync']

  return {
    ...stack,
    erp,
    /** What runs told of their calls and their rows. */
    calls,
    rows,
    /** A site that uses the ERP, at no time of its own. */
    site: (settings: object = {}, values: object = {}) =>
      createSite(db, {
        settings: {
          erp: {
            url: erp.url,
            requestsPerSecond: many,
            schedule: { products: 'off', inventory: 'off', prices: 'off' },
            ...settings,
          },
        },
        ...values,
      }),
    /** Products `S-1` to `S-n` of the shop, each with one variant of its SKU and so much in stock. */
    async products(siteId: number, n: number, stock: number | null = null) {
      await db.execute(
        sql`WITH made AS (
              INSERT INTO website_products (site_id, sku, name, price, sync_status)
              SELECT ${siteId}, 'S-' || n, 'Product ' || n, 10, 'synced' FROM generate_series(1, ${n}::int) n
              RETURNING id, sku)
            INSERT INTO website_product_variants (product_id, sku, inventory_quantity)
            SELECT id, sku, ${stock ?? 0} FROM made`,
      )
    },
    /** What the ERP says of the stock of `S-1` to `S-n`. */
    stock: (n: number, quantity: (n: number) => number) =>
      erp.inventory.fill(n, (i) => ({ sku: `S-${i + 1}`, quantity: quantity(i + 1) })),
    /** SKUs and stock of a site, by SKU. */
    async quantities(siteId: number) {
      const { rows } = await db.execute(
        sql`SELECT v.sku, v.inventory_quantity AS quantity FROM website_product_variants v
            JOIN website_products p ON p.id = v.product_id WHERE p.site_id = ${siteId}`,
      )
      return new Map(rows.map((row) => [row['sku'] as string, row['quantity'] as number]))
    },
    ask: (job: JobName, payload: Record<string, unknown>) => enqueueItem(db, job, payload, { rung: false }),
    async item(workId: number) {
      const [item] = await db.select().from(work).where(eq(work.id, workId))
      return item!
    },
    items: (job: JobName) => db.select().from(work).where(eq(work.job, job)).orderBy(work.id),
    runs: (siteId: number) => db.select().from(syncRuns).where(eq(syncRuns.siteId, siteId)).orderBy(syncRuns.id),
    checkpoints: (siteId: number) => db.select().from(syncCheckpoints).where(eq(syncCheckpoints.siteId, siteId)),
    logs: (siteId: number) =>
      db.select().from(websiteSyncLogs).where(eq(websiteSyncLogs.siteId, siteId)).orderBy(desc(websiteSyncLogs.id)),
    productRows: (siteId: number) =>
      db.select().from(websiteProducts).where(eq(websiteProducts.siteId, siteId)).orderBy(websiteProducts.id),
    async close() {
      await stack.close()
      await caller.close()
      closed()
      await erp.close()
    },
  }
}

export type SyncStack = Awaited<ReturnType<typeof createSyncStack>>
