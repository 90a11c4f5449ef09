import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../../client.ts'

/** All that changed about a product and no event tells of yet. */
export interface TakenChange {
  productId: number
  sku: string
  changed: string[]
}

/** How long changes of one product come together in one event, ms. */
export const gatherMs = 2_000

const ripe = sql`min(c.at) <= now() - ${gatherMs} * interval '1 ms'`

/**
 * Takes away the changes of the next products whose first change is old enough, in the order of their ids. `products`: how
 * many those are; `changes` lacks the ones that are deleted.
 */
export async function takeChanges(
  tx: Tx,
  siteId: number,
  most: number,
): Promise<{ products: number; changes: TakenChange[] }> {
  // product_changes_product, in its order and then by its key; primary key of products. What another run is just taking is
  // waited for, and gone.
  const { rows } = await tx.execute(
    sql`WITH ripe AS MATERIALIZED (
          SELECT c.product_id FROM website_worker.product_changes c WHERE c.site_id = ${siteId}
          GROUP BY c.product_id HAVING ${ripe} ORDER BY c.product_id LIMIT ${most}),
        taken AS (
          DELETE FROM website_worker.product_changes c USING ripe r
          WHERE c.site_id = ${siteId} AND c.product_id = r.product_id RETURNING c.product_id, c.changed),
        words AS (
          SELECT t.product_id, array_agg(DISTINCT w.word ORDER BY w.word) AS changed
          FROM taken t CROSS JOIN unnest(t.changed) AS w(word) GROUP BY t.product_id)
        SELECT (SELECT count(*) FROM ripe)::int AS products, coalesce((
          SELECT json_agg(json_build_object('productId', p.id, 'sku', p.sku, 'changed', w.changed) ORDER BY p.id)
          FROM words w JOIN public.website_products p ON p.id = w.product_id AND p.deleted_at IS NULL), '[]') AS changes`,
  )
  return rows[0] as unknown as { products: number; changes: TakenChange[] }
}

/** In how many ms the next product's changes are old enough; null when there are none. */
export async function nextRipeMs(db: Db, siteId: number): Promise<number | null> {
  // product_changes_product: what is there came in within the last moments.
  const { rows } = await db.execute(
    sql`SELECT (${gatherMs} - extract(epoch FROM now() - min(c.at)) * 1000)::float8 AS ms
        FROM website_worker.product_changes c WHERE c.site_id = ${siteId}`,
  )
  const ms = rows[0]?.ms as number | null
  return ms === null ? null : Math.max(0, Math.ceil(ms))
}

/** Whether a site has a webhook for an event, on or disabled by the worker. */
export async function isWanted(db: Db | Tx, siteId: number, event: string): Promise<boolean> {
  // idx_website_webhooks_site_id, primary key of webhook_health.
  const { rows } = await db.execute(
    sql`SELECT EXISTS (
          SELECT FROM public.website_webhooks w LEFT JOIN website_worker.webhook_health h ON h.webhook_id = w.id
          WHERE w.site_id = ${siteId} AND w.event = ${event} AND (w.is_active OR h.disabled_at IS NOT NULL)) AS wanted`,
  )
  return rows[0]?.wanted === true
}
