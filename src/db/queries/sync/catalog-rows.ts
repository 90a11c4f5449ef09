import { sql, type SQL } from 'drizzle-orm'

// Each is looked up by its key, row for row, whatever the planner believes of tables that are just being filled: OFFSET 0
// keeps it from beginning with all of a site, and the site outside of it from taking an index that begins with that.

const variant: SQL = sql`
  SELECT v.id, v.product_id, v.sku, v.price, v.compare_at_price, v.inventory_quantity FROM public.website_product_variants v`

const product: SQL = sql`
  SELECT p.id, p.site_id, p.sku, p.price, p.compare_at_price, p.deleted_at FROM public.website_products p`

/** Joins the variants `t` of a SKU. Uses idx_website_product_variants_sku. */
export const variantsOf = (sku: SQL): SQL => sql`
  JOIN LATERAL (${variant} WHERE v.sku = ${sku} OFFSET 0) t ON true`

/** Joins the variant `t` of an id. Primary key. */
export const variantOf = (id: SQL): SQL => sql`
  JOIN LATERAL (${variant} WHERE v.id = ${id} OFFSET 0) t ON true`

/** Joins the variants `t` of a product. Uses idx_website_product_variants_product_id. */
export const variantsIn = (productId: SQL): SQL => sql`
  JOIN LATERAL (${variant} WHERE v.product_id = ${productId} OFFSET 0) t ON true`

/** Joins the product `p` of a variant `t`, if it is the site's and not deleted. Primary key. */
export const liveProductAt = (siteId: number): SQL => sql`
  JOIN LATERAL (
    ${product} WHERE p.id = t.product_id OFFSET 0
  ) p ON p.site_id = ${siteId} AND p.deleted_at IS NULL`

/** Joins the product `t` of a SKU, if it is the site's and not deleted. Uses idx_website_products_sku. */
export const productOf = (siteId: number, sku: SQL): SQL => sql`
  JOIN LATERAL (
    ${product} WHERE p.sku = ${sku} OFFSET 0
  ) t ON t.site_id = ${siteId} AND t.deleted_at IS NULL`

/** Joins the product `t` of an id, if it is the site's and not deleted. Primary key. */
export const productAt = (siteId: number, id: SQL): SQL => sql`
  JOIN LATERAL (
    ${product} WHERE p.id = ${id} OFFSET 0
  ) t ON t.site_id = ${siteId} AND t.deleted_at IS NULL`

/** Whether a variant `t` is kept although the ERP has it no longer. Primary key. */
export const isRetired: SQL = sql`(
  SELECT r.variant_id FROM website_worker.retired_variants r WHERE r.variant_id = t.id) IS NOT NULL`
