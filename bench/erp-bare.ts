import { sql } from 'drizzle-orm'
import type { Db } from '../src/db/client.ts'
import { websiteProducts, websiteProductVariants } from '../src/db/schema/catalog.ts'
import { websiteSites } from '../src/db/schema/sites.ts'
import { productRecord } from '../test/fixtures/erp-catalogue.ts'
import { perSecond } from './measure.ts'

/** Products in a statement. */
const setSize = 5_000

interface Product {
  id: number
  sku: string
  name: string
  description: string
  shortDescription: string
  price: string
  cost: string
  weight: string
  attributes: object
  images: object[]
  variants?: { sku: string; name: string; price: string; attributes: object }[]
}

const productOf = (n: number) => productRecord(n) as unknown as Product

async function makeSite(db: Db): Promise<number> {
  const domain = `${crypto.randomUUID()}.example`
  const [site] = await db.insert(websiteSites).values({ name: 'bench', domain }).returning({ id: websiteSites.id })
  return site!.id
}

/** Nothing but the upsert of the same rows into the same tables, a set at a time, by one who has them at hand as JSON. */
export async function bareUpserts(db: Db, products: number): Promise<number> {
  const siteId = await makeSite(db)
  const sets: string[] = []
  for (let from = 0; from < products; from += setSize)
    sets.push(JSON.stringify(Array.from({ length: Math.min(setSize, products - from) }, (_, n) => productOf(from + n))))
  const began = performance.now()
  for (const set of sets)
    await db.execute(sql`
      WITH given AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(${set}::jsonb) AS g(id int, sku text, name text, description text,
          "shortDescription" text, price numeric, cost numeric, weight numeric, attributes jsonb, images jsonb, variants jsonb)),
      put AS (
        INSERT INTO website_products AS p (site_id, erp_product_id, sku, name, description, short_description, price, cost,
          weight, attributes, images, seo_slug, status, sync_status, last_synced_at)
        SELECT ${siteId}, id, sku, name, description, "shortDescription", price, cost, weight, attributes, images,
          lower(sku), 'active', 'synced', now() FROM given
        ON CONFLICT (site_id, sku) DO UPDATE SET name = excluded.name, description = excluded.description,
          short_description = excluded.short_description, price = excluded.price, cost = excluded.cost,
          weight = excluded.weight, attributes = excluded.attributes, images = excluded.images,
          sync_status = 'synced', last_synced_at = now()
        RETURNING p.id, p.sku)
      INSERT INTO website_product_variants AS v (product_id, sku, name, price, attributes)
      SELECT put.id, x.sku, x.name, x.price, coalesce(x.attributes, '{}')
      FROM put JOIN given USING (sku)
      CROSS JOIN LATERAL jsonb_to_recordset(coalesce(given.variants, jsonb_build_array(jsonb_build_object('sku', sku))))
        AS x(sku text, name text, price numeric, attributes jsonb)
      ON CONFLICT (product_id, sku) DO UPDATE SET name = excluded.name, price = excluded.price, attributes = excluded.attributes`)
  return perSecond(products, began)
}

/** What most people write: a row at a time, and its variants after it. */
export async function rowByRow(db: Db, products: number): Promise<number> {
  const siteId = await makeSite(db)
  const began = performance.now()
  for (let n = 0; n < products; n++) {
    const { id, variants, ...fields } = productOf(n)
    const { sku, ...values } = { ...fields, erpProductId: id, syncStatus: 'synced' as const, lastSyncedAt: new Date() }
    const [row] = await db
      .insert(websiteProducts)
      .values({ siteId, sku, ...values })
      .onConflictDoUpdate({ target: [websiteProducts.siteId, websiteProducts.sku], set: values })
      .returning({ id: websiteProducts.id })
    for (const variant of variants ?? [{ sku }]) {
      const { sku: own, ...rest } = variant
      await db
        .insert(websiteProductVariants)
        .values({ productId: row!.id, sku: own, ...rest })
        .onConflictDoUpdate({
          target: [websiteProductVariants.productId, websiteProductVariants.sku],
          set: { updatedAt: new Date(), ...rest },
        })
    }
  }
  return perSecond(products, began)
}
