import { sql, type SQL } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { liveProductAt, productAt, productOf, variantOf, variantsIn, variantsOf } from './catalog-rows.ts'
import type { ProductChange } from './changes.ts'
import { stagedBetween, type Kept, type StagedRange } from './levels.ts'
import type { SyncRun } from './run.ts'
import { lockCatalog } from './site-lock.ts'

type PriceRun = Pick<SyncRun, 'runId' | 'siteId'>

/** Remembers what the ERP says in a range, where that isn't older than what it said before. */
export async function keepPrices(tx: Tx, run: SyncRun, range: StagedRange): Promise<Kept> {
  const { siteId } = run
  // Primary keys of staging and erp_prices, each row by its place. A compare-at price that the ERP is silent about stays as
  // it was said last.
  const { rows } = await tx.execute(
    sql`WITH page AS MATERIALIZED (
          SELECT l.sku, l.price, l.version, l.doc IS NOT NULL OR coalesce(e.says_compare_at, false) AS says,
            CASE WHEN l.doc IS NULL THEN e.compare_at_price ELSE l.compare_at_price END AS compare,
            e.at, e.version AS had, e.price AS had_price, e.compare_at_price AS had_compare, e.says_compare_at AS had_said
          FROM ${stagedBetween(run, 'price', range)}
          LEFT JOIN LATERAL (
            SELECT e.ctid AS at, e.version, e.price, e.compare_at_price, e.says_compare_at FROM website_worker.erp_prices e
            WHERE e.site_id = ${siteId} AND e.sku = l.sku OFFSET 0) e ON true),
        updated AS (
          UPDATE website_worker.erp_prices e
          SET price = k.price, compare_at_price = k.compare, says_compare_at = k.says, version = k.version
          FROM page k WHERE e.ctid = k.at AND (k.version > k.had OR k.version = k.had
            AND (k.price, k.compare, k.says) IS DISTINCT FROM (k.had_price, k.had_compare, k.had_said))),
        inserted AS (
          INSERT INTO website_worker.erp_prices (site_id, sku, price, compare_at_price, says_compare_at, version)
          SELECT ${siteId}, k.sku, k.price, k.compare, k.says, k.version FROM page k WHERE k.had IS NULL)
        SELECT count(*)::int AS skus, count(*) FILTER (WHERE version < had)::int AS stale FROM page`,
  )
  return rows[0] as unknown as Kept
}

/** Lets whatever the ERP says of a site's prices next count as newer: it was restored from a backup. */
export async function forgetPriceVersions(tx: Tx, siteId: number): Promise<void> {
  await lockCatalog(tx, { siteId })
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.erp_prices SET version = '-Infinity' WHERE site_id = ${siteId} AND version <> '-Infinity'`,
  )
}

/** A variant `t` that has no price of its own and its product's SKU costs what the product `p` costs. */
export const ownPrice: SQL = sql`(t.price IS NOT NULL OR t.sku <> p.sku)`

/** Rows `t` and what the ERP last said of their SKUs; `is_off`: it isn't so. Silence about a compare-at price is no word. */
const shouldCost = ({ siteId }: PriceRun, productId: SQL, isPriced: SQL, rows: SQL): SQL => sql`
  SELECT t.id, ${productId} AS product_id, t.sku, t.price AS was, t.compare_at_price AS compare_was, e.price,
    e.compare_at_price, e.says_compare_at, ${isPriced} AND (t.price IS DISTINCT FROM e.price
      OR e.says_compare_at AND t.compare_at_price IS DISTINCT FROM e.compare_at_price) AS is_off
  FROM ${rows}
  JOIN LATERAL (
    SELECT e.price, e.compare_at_price, e.says_compare_at FROM website_worker.erp_prices e
    WHERE e.site_id = ${siteId} AND e.sku = t.sku OFFSET 0) e ON true`

const products = (run: PriceRun, rows: SQL): SQL => shouldCost(run, sql`t.id`, sql`true`, rows)

const variants = (run: PriceRun, rows: SQL): SQL =>
  shouldCost(run, sql`t.product_id`, ownPrice, sql`${rows} ${liveProductAt(run.siteId)}`)

/** Rows whose price has to change: those that are locked now, and how many someone else has locked. */
export interface LockedPrices {
  productIds: number[]
  variantIds: number[]
  busy: number
  /** SKUs of the range that the site sells. */
  sold: number
}

/** Locks the products and variants of a range's SKUs whose prices have to change; waits for nobody. */
export async function lockPrices(tx: Tx, run: PriceRun, range: StagedRange): Promise<LockedPrices> {
  const { siteId } = run
  // Primary keys of staging and erp_prices, idx_website_products_sku, idx_website_product_variants_sku; primary keys.
  const { rows } = await tx.execute(
    sql`WITH page AS MATERIALIZED (SELECT l.sku FROM ${stagedBetween(run, 'price', range)}),
        products AS MATERIALIZED (${products(run, sql`page ${productOf(siteId, sql`page.sku`)}`)}),
        variants AS MATERIALIZED (${variants(run, sql`page ${variantsOf(sql`page.sku`)}`)}),
        locked_products AS MATERIALIZED (
          SELECT t.id FROM public.website_products t WHERE t.id = ANY (ARRAY(SELECT w.id FROM products w WHERE w.is_off))
          FOR NO KEY UPDATE SKIP LOCKED),
        locked_variants AS MATERIALIZED (
          SELECT t.id FROM public.website_product_variants t
          WHERE t.id = ANY (ARRAY(SELECT w.id FROM variants w WHERE w.is_off)) FOR NO KEY UPDATE SKIP LOCKED)
        SELECT ARRAY(SELECT l.id FROM locked_products l) AS "productIds",
          ARRAY(SELECT l.id FROM locked_variants l) AS "variantIds",
          count(*) FILTER (WHERE w.is_off)::int AS wanted, count(DISTINCT w.sku)::int AS sold
        FROM (SELECT sku, is_off FROM products UNION ALL SELECT sku, is_off FROM variants) w`,
  )
  const { wanted, ...locked } = rows[0] as unknown as Omit<LockedPrices, 'busy'> & { wanted: number }
  return { ...locked, busy: wanted - locked.productIds.length - locked.variantIds.length }
}

/** What became of prices: the rows that were written, and what changed about which product. */
export interface WrittenPrices {
  rows: number
  skus: Set<string>
  changes: ProductChange[]
}

const setPrices = (table: SQL, wanted: SQL, more: SQL): SQL => sql`
  WITH wanted AS MATERIALIZED (${wanted})
  UPDATE ${table} t SET price = w.price,
    compare_at_price = CASE WHEN w.says_compare_at THEN w.compare_at_price ELSE t.compare_at_price END ${more}
  FROM wanted w WHERE t.id = w.id AND w.is_off
  RETURNING w.product_id AS "productId", t.sku, w.was IS DISTINCT FROM w.price AS price,
    w.says_compare_at AND w.compare_was IS DISTINCT FROM w.compare_at_price AS compare`

async function write(tx: Tx, run: PriceRun, ofProducts: SQL, ofVariants: SQL): Promise<WrittenPrices> {
  const synced = sql`, last_synced_at = now() AT TIME ZONE 'UTC'`
  const statements = [
    setPrices(sql`public.website_products`, products(run, ofProducts), synced),
    setPrices(sql`public.website_product_variants`, variants(run, ofVariants), sql``),
  ]
  const written: WrittenPrices = { rows: 0, skus: new Set(), changes: [] }
  const changed = new Map<number, Set<string>>()
  for (const statement of statements) {
    // Primary keys of products, variants and erp_prices; idx_website_product_variants_product_id.
    const { rows } = await tx.execute(statement)
    for (const row of rows as unknown as { productId: number; sku: string; price: boolean; compare: boolean }[]) {
      const words = changed.get(row.productId) ?? new Set()
      if (row.price) words.add('price')
      if (row.compare) words.add('compareAtPrice')
      changed.set(row.productId, words)
      written.skus.add(row.sku)
      written.rows++
    }
  }
  written.changes = [...changed].map(([productId, words]) => ({ productId, changed: [...words] }))
  return written
}

const each = (ids: readonly number[]) => sql`unnest(${sql.param(ids)}::int[]) AS i(id)`

const productsOf = ({ siteId }: PriceRun, ids: readonly number[]): SQL =>
  sql`${each(ids)} ${productAt(siteId, sql`i.id`)}`

/** Sets products and variants to what the ERP last said of their SKUs, where that differs. */
export function writePrices(
  tx: Tx,
  run: PriceRun,
  { productIds, variantIds }: Pick<LockedPrices, 'productIds' | 'variantIds'>,
): Promise<WrittenPrices> {
  return write(tx, run, productsOf(run, productIds), sql`${each(variantIds)} ${variantOf(sql`i.id`)}`)
}

/**
 * Gives products that are new, or have another SKU, and their variants the prices that the ERP last named for their SKUs.
 * Nothing where prices come with the products. Returns what changed; nobody is told.
 */
export async function applyPricesTo(
  tx: Tx,
  run: PriceRun & Pick<SyncRun, 'hasPriceStream'>,
  productIds: readonly number[],
): Promise<ProductChange[]> {
  if (!run.hasPriceStream || productIds.length === 0) return []
  const ofVariants = sql`${each(productIds)} ${variantsIn(sql`i.id`)}`
  const { changes } = await write(tx, run, productsOf(run, productIds), ofVariants)
  return changes
}
