import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../../client.ts'

/** A site as its ERP's connector needs it. */
export interface ErpSite {
  siteId: number
  /** `website_sites.settings.erp`, unread. */
  settings: unknown
  /** As the row has it; may be of no use. */
  timezone: string | null
}

/** A site that isn't deleted. */
export async function findErpSite(db: Db, siteId: number): Promise<ErpSite | undefined> {
  // Primary key.
  const { rows } = await db.execute(
    sql`SELECT s.id AS "siteId", s.settings -> 'erp' AS settings, s.timezone
        FROM public.website_sites s WHERE s.id = ${siteId} AND s.deleted_at IS NULL`,
  )
  return rows[0] as ErpSite | undefined
}

/** The sites that the ERP calls by a key. */
export async function sitesOfKey(db: Db | Tx, siteKey: string): Promise<number[]> {
  // A table of few rows.
  const { rows } = await db.execute(
    sql`SELECT s.id FROM public.website_sites s
        WHERE s.settings -> 'erp' ->> 'siteKey' = ${siteKey} AND s.deleted_at IS NULL ORDER BY s.id LIMIT 2`,
  )
  return rows.map((row) => row['id'] as number)
}

/**
 * The SKUs behind the ERP's product ids at a site, for a stream: of stock and prices the variants' too. `unknown`: how
 * many of the ids no product is known by.
 */
export async function skusOfErpIds(
  tx: Tx,
  siteId: number,
  erpIds: readonly string[],
  withVariants: boolean,
): Promise<{ skus: string[]; unknown: number }> {
  // Primary keys of erp_ids and website_products; idx_website_product_variants_product_id.
  const { rows } = await tx.execute(
    sql`SELECT count(*) FILTER (WHERE p.id IS NULL)::int AS unknown,
          coalesce(json_agg(v.sku) FILTER (WHERE v.sku IS NOT NULL), '[]') AS skus
        FROM unnest(${sql.param([...erpIds])}::text[]) AS u(erp_id)
        LEFT JOIN website_worker.erp_ids i ON i.site_id = ${siteId} AND i.entity = 'product' AND i.erp_id = u.erp_id
        LEFT JOIN public.website_products p ON p.id = i.row_id AND p.deleted_at IS NULL
        LEFT JOIN LATERAL (
          SELECT p.sku WHERE p.id IS NOT NULL
          UNION SELECT x.sku FROM public.website_product_variants x WHERE ${withVariants} AND x.product_id = p.id) v ON true`,
  )
  const { skus, unknown } = rows[0] as { skus: string[]; unknown: number }
  return { skus: [...new Set(skus)], unknown }
}
