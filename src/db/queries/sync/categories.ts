import { sql, type SQL } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import type { StagedRange } from './levels.ts'
import { knownCategories } from './products-record.ts'
import { isBlank, isOurs, isWritable, stagedRows, type Traversal } from './products-staged.ts'
import type { SyncRun } from './run.ts'

/** The site's category of a slug `named`. website_categories_site_id_slug_key. */
export const categoryOf = (siteId: number): SQL => sql`(
  SELECT c.id FROM public.website_categories c
  WHERE c.site_id = ${siteId} AND c.slug = named.slug AND c.deleted_at IS NULL)`

/**
 * Puts staged products into the categories that the ERP newly names, and takes them out of those that it no longer does;
 * what the shop has put them into stays. A category that the shop doesn't have is left out, until it has. Returns how
 * many names those were.
 */
export async function applyCategories(tx: Tx, run: SyncRun, view: Traversal, range: StagedRange): Promise<number> {
  if (!isOurs(run, 'categories')) return 0
  const { siteId } = run
  // Primary keys, website_product_categories_product_id_category_id_key, idx_website_product_categories_product_id.
  const { rows } = await tx.execute(
    sql`WITH calc AS MATERIALIZED (
          SELECT p.id, has.slugs, coalesce(ep.categories, '{}') AS had,
            jsonb_array_length(s.doc -> 'categories') - cardinality(has.slugs) AS unknown,
            CASE WHEN ep.product_id IS NULL THEN ${isBlank} ELSE has.slugs IS DISTINCT FROM coalesce(ep.categories, '{}') END
              AS is_changed
          FROM ${stagedRows(run)}
          CROSS JOIN LATERAL (SELECT ${knownCategories(view)}) AS has(slugs)
          WHERE ${isWritable(run, range)} AND jsonb_typeof(s.doc -> 'categories') = 'array'
        ), dropped AS (
          DELETE FROM public.website_product_categories l
          WHERE l.id IN (
            SELECT l.id FROM calc k CROSS JOIN LATERAL unnest(k.had) AS named(slug)
            JOIN LATERAL (
              SELECT l.id FROM public.website_product_categories l
              WHERE l.product_id = k.id AND l.category_id = ${categoryOf(siteId)} OFFSET 0) l ON true
            WHERE k.is_changed AND named.slug <> ALL (k.slugs))
          RETURNING l.product_id
        ), added AS (
          INSERT INTO public.website_product_categories (product_id, category_id, is_primary, created_at)
          SELECT w.id, w.category_id, w.is_primary, now() AT TIME ZONE 'UTC'
          FROM (
            SELECT k.id, ${categoryOf(siteId)} AS category_id, named.slug = k.slugs[1] AS is_primary
            FROM calc k CROSS JOIN LATERAL unnest(k.slugs) AS named(slug)
            WHERE k.is_changed AND named.slug <> ALL (k.had) OFFSET 0) w
          WHERE w.category_id IS NOT NULL AND (
            SELECT l.id FROM public.website_product_categories l
            WHERE l.product_id = w.id AND l.category_id = w.category_id) IS NULL
          ORDER BY w.id, NOT w.is_primary
          ON CONFLICT DO NOTHING
          RETURNING product_id
        ), moved AS (
          UPDATE public.website_product_categories l SET is_primary = m.is_first
          FROM (
            SELECT l.id, l.slug = k.slugs[1] AS is_first FROM calc k
            JOIN LATERAL (
              SELECT l.id, l.is_primary, c.slug FROM public.website_product_categories l
              JOIN public.website_categories c ON c.id = l.category_id WHERE l.product_id = k.id OFFSET 0) l ON true
            WHERE k.is_changed AND cardinality(k.slugs) > 0
              AND k.slugs[1] IS DISTINCT FROM k.had[1] AND (l.slug = ANY (k.slugs) OR l.slug <> ALL (k.had))
              AND l.is_primary IS DISTINCT FROM (l.slug = k.slugs[1])) m
          WHERE l.id = m.id
          RETURNING l.product_id
        ), noted AS (
          INSERT INTO website_worker.product_changes (site_id, product_id, changed)
          SELECT ${siteId}::int, m.id, '{categories}'::text[]
          FROM (SELECT product_id FROM dropped UNION SELECT product_id FROM added UNION SELECT product_id FROM moved) AS m(id)
          WHERE NOT ${run.isFirst})
        SELECT coalesce(sum(k.unknown), 0)::int AS unknown FROM calc k`,
  )
  return rows[0]?.unknown as number
}
