import { sql } from 'drizzle-orm'
import type { Erp, ErpRecord } from '../fixtures/erp.ts'
import { demand } from './judge.ts'
import type { World } from './world.ts'

interface Wanted {
  name: unknown
  price: string
  /** By SKU: price, if it has one of its own, and quantity. */
  variants: Map<string, { price: string | null; quantity: number }>
}

const recordsOf = (stream: Erp['products']): ErpRecord[] => {
  const page = stream.page({ since: null, cursor: null, skus: null, limit: Number.POSITIVE_INFINITY })
  return page === 'expired' ? [] : page.items.map((json) => JSON.parse(json) as ErpRecord)
}

/** What a shop in line with the ERP has, by SKU; `isBad` tells records that can't be taken. */
function wantedOf(erp: Erp, isBad: (record: ErpRecord) => boolean): Map<string, Wanted> {
  const taken = (stream: Erp['products']) =>
    new Map(recordsOf(stream).flatMap((record) => (isBad(record) ? [] : [[String(record['sku']), record] as const])))
  const [levels, prices] = [taken(erp.inventory), taken(erp.prices)]
  const quantity = (sku: string) => Number(levels.get(sku)?.['quantity'] ?? 0)
  const price = (sku: string, own: unknown) => (prices.get(sku)?.['price'] ?? own ?? null) as string | null
  return new Map(
    [...taken(erp.products)].map(([sku, record]) => {
      const given = (record['variants'] ?? []) as ErpRecord[]
      const variants = given.map((variant) => {
        const own = String(variant['sku'])
        return [own, { price: price(own, variant['price']), quantity: quantity(own) }] as const
      })
      const all = variants.length > 0 ? variants : [[sku, { price: null, quantity: quantity(sku) }] as const]
      return [sku, { name: record['name'], price: price(sku, record['price'])!, variants: new Map(all) }]
    }),
  )
}

interface ShopRow {
  sku: string
  name: string
  price: string
  status: string
  variants: { sku: string; price: string | null; quantity: number }[]
}

async function readShop(world: World, siteId: number): Promise<ShopRow[]> {
  // Whole tables; nothing else is asked of them meanwhile.
  const { rows } = await world.db.execute(sql`
    SELECT p.sku, p.name, p.price::text, p.status, coalesce(v.variants, '[]') AS variants
    FROM website_products p
    LEFT JOIN (
      SELECT product_id, jsonb_agg(jsonb_build_object(
        'sku', sku, 'price', price::text, 'quantity', inventory_quantity)) AS variants
      FROM website_product_variants GROUP BY product_id
    ) v ON v.product_id = p.id
    WHERE p.site_id = ${siteId} AND p.deleted_at IS NULL`)
  return rows as unknown as ShopRow[]
}

function unlike(row: ShopRow, wanted: Wanted | undefined): string | null {
  const { sku, status } = row
  if (!wanted) return status === 'inactive' ? null : `${sku} is ${status}, and the ERP doesn't have it`
  if (status !== 'active') return `${sku} is ${status}`
  if (row.name !== wanted.name) return `${sku} is called ${row.name}, not ${String(wanted.name)}`
  if (row.price !== wanted.price) return `${sku} costs ${row.price}, not ${wanted.price}`
  if (row.variants.length !== wanted.variants.size) return `${sku} has ${row.variants.length} variants`
  for (const { sku: own, price, quantity } of row.variants) {
    const variant = wanted.variants.get(own)
    if (!variant) return `${sku} has a variant ${own}`
    if (price !== variant.price) return `${own} costs ${price}, not ${variant.price}`
    if (quantity !== variant.quantity) return `${own}: ${quantity} in stock, not ${variant.quantity}`
  }
  return null
}

/** Fails unless the shop has exactly what the ERP has: every product, name, price, variant and quantity. */
export async function demandInLine(
  world: World,
  siteId: number,
  erp: Erp,
  isBad: (record: ErpRecord) => boolean = () => false,
): Promise<{ products: number; stock: number }> {
  const wanted = wantedOf(erp, isBad)
  const rows = await readShop(world, siteId)
  const problems = rows.flatMap((row) => unlike(row, wanted.get(row.sku)) ?? [])
  const active = rows.filter((row) => wanted.has(row.sku))
  demand(active.length === wanted.size, `site ${siteId} has ${active.length} of ${wanted.size} products`)
  demand(problems.length === 0, `site ${siteId}: ${problems.length} differ, e.g. ${problems.slice(0, 3).join('; ')}`)
  const stock = rows.flatMap((row) => row.variants).reduce((sum, variant) => sum + variant.quantity, 0)
  return { products: active.length, stock }
}
