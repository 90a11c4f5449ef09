import { sql, type SQL } from 'drizzle-orm'
import type { Db, Tx } from '../../client.ts'
import type { StagedRange } from './levels.ts'
import { isAtSite, isNews, isStagedAs, rowOf, stagedOf, texts, toKnown, type Traversal } from './products-staged.ts'
import type { SyncRun } from './run.ts'

/** Staged records that can't be applied. */
export interface Refusal {
  n: number
  /** Empty: it gives way in silence. */
  reason: string
}

/** Keeps staged records from being applied. */
export async function refuse(
  db: Db | Tx,
  { runId }: Pick<SyncRun, 'runId'>,
  refusals: readonly Refusal[],
): Promise<void> {
  if (refusals.length === 0) return
  // Primary key.
  await db.execute(
    sql`UPDATE website_worker.sync_staging s SET refusal = r.reason
        FROM json_to_recordset(${JSON.stringify(refusals)}::json) AS r(n int, reason text)
        WHERE s.run_id = ${runId} AND s.n = r.n`,
  )
}

/**
 * Whether the ERP id `o` that a row belongs to is archived or gone, by what is staged of it, `x`, and what was known, `oep`:
 * its SKU may be given to another.
 */
export const isDead = (view: Traversal): SQL => sql`
  CASE WHEN x.kind = 'tombstone' THEN oep.version IS NULL OR x.version >= oep.version
       WHEN x.kind = 'product' AND (oep.version IS NULL OR x.version >= oep.version)
         THEN coalesce(x.doc ->> 'status', 'active') = 'inactive'
       ELSE coalesce(oep.status IN ('gone', 'inactive'), false)
         OR ${view.isComplete} AND x.n IS NULL AND o.erp_id <> ALL (${texts(view.badIds)}) AND q.sku <> ALL (${texts(view.badSkus)})
  END`

/** Joins rows `q` of the shop to the ERP id `o` they belong to, and what `isDead` looks at. erp_ids_row, then unique keys. */
export const toOwner = (run: Pick<SyncRun, 'runId'>): SQL => sql`
  LEFT JOIN LATERAL (
    SELECT o.erp_id FROM website_worker.erp_ids o WHERE o.entity = 'product' AND o.row_id = q.id OFFSET 0) o ON true
  LEFT JOIN LATERAL (
    SELECT oep.version, oep.status FROM website_worker.erp_products oep WHERE oep.product_id = q.id OFFSET 0) oep ON true
  LEFT JOIN LATERAL (
    SELECT x.n, x.kind, x.version, x.doc FROM website_worker.sync_staging x
    WHERE ${isStagedAs(run, sql`x`, sql`o.erp_id`)} OFFSET 0) x ON true`

/** Whether a site has no products, and had none from its ERP: there is nothing to find, to take over, or to lose. */
export async function isShopEmpty(db: Db | Tx, { siteId }: Pick<SyncRun, 'siteId'>): Promise<boolean> {
  // idx_website_products_site_id and the primary key of erp_ids.
  const { rows } = await db.execute(
    sql`SELECT (SELECT true FROM public.website_products p WHERE p.site_id = ${siteId} LIMIT 1) IS NULL
          AND (SELECT true FROM website_worker.erp_ids l WHERE l.site_id = ${siteId} AND l.entity = 'product' LIMIT 1) IS NULL
          AS "isEmpty"`,
  )
  return rows[0]?.isEmpty === true
}

/** Forgets ids of rows that the shop has removed, or moved to another site. */
export async function forgetLostRows(tx: Tx, run: SyncRun): Promise<void> {
  const { runId, siteId } = run
  // Primary keys; erp_products_site where all of the site is looked at.
  const isAsked = sql`l.erp_id IN (SELECT s.erp_id FROM website_worker.sync_staging s WHERE s.run_id = ${runId})`
  await tx.execute(
    sql`WITH lost AS (
          DELETE FROM website_worker.erp_ids l
          WHERE l.site_id = ${siteId} AND l.entity = 'product' AND ${run.mode === 'full' ? sql`true` : isAsked}
            AND (SELECT p.id FROM public.website_products p WHERE p.id = l.row_id AND ${isAtSite(sql`p`, run)}) IS NULL
          RETURNING l.row_id)
        DELETE FROM website_worker.erp_products ep USING lost WHERE ep.product_id = lost.row_id`,
  )
}

/** Takes over the ids that rows had before there was a list of them. A full run looks at all rows of the site. */
export async function linkByNumber(tx: Tx, run: SyncRun): Promise<void> {
  const { runId, siteId } = run
  const staged = sql`
    p.erp_product_id IN (
      SELECT s.erp_id::int FROM website_worker.sync_staging s
      WHERE s.run_id = ${runId} AND CASE WHEN s.erp_id ~ '^[1-9][0-9]{0,9}$' THEN s.erp_id::bigint <= 2147483647 END)`
  // idx_website_products_site_id for all, idx_website_products_erp_product_id for what is staged; keys of erp_ids.
  await tx.execute(
    sql`INSERT INTO website_worker.erp_ids (site_id, entity, erp_id, row_id)
        SELECT DISTINCT ON (p.erp_product_id) ${siteId}, 'product', p.erp_product_id::text, p.id
        FROM public.website_products p
        WHERE p.site_id = ${siteId} AND p.erp_product_id IS NOT NULL AND ${run.mode === 'full' ? sql`true` : staged}
          AND (SELECT l.row_id FROM website_worker.erp_ids l WHERE l.entity = 'product' AND l.row_id = p.id) IS NULL
          AND ${rowOf(run, sql`p.erp_product_id::text`)} IS NULL
        ORDER BY p.erp_product_id, p.deleted_at IS NOT NULL, p.id`,
  )
}

/** Of staged products with the same SKU lets one have it: one that is active, then the one whose row has it, then the first. */
export async function refuseTwins(tx: Tx, run: SyncRun): Promise<void> {
  // Primary keys.
  await tx.execute(
    sql`WITH claims AS (
          SELECT s.n, s.sku, s.erp_id, coalesce(s.doc ->> 'status', 'active') = 'active' AS is_active,
            p.sku IS NOT DISTINCT FROM s.sku AS has_it
          FROM website_worker.sync_staging s
          LEFT JOIN LATERAL (
            SELECT p.id, p.sku FROM public.website_products p WHERE p.id = ${rowOf(run, sql`s.erp_id`)} OFFSET 0) p ON true
          ${toKnown}
          WHERE ${stagedOf(run, 'product')} AND s.refusal IS NULL AND ${isNews}
        ), ranked AS (
          SELECT c.n, c.sku, c.is_active, row_number() OVER best AS place, first_value(c.erp_id) OVER best AS winner
          FROM claims c WINDOW best AS (PARTITION BY c.sku ORDER BY c.is_active DESC, c.has_it DESC, c.n))
        UPDATE website_worker.sync_staging s SET refusal =
          CASE WHEN r.is_active THEN 'SKU ' || r.sku || ' is also that of product ' || r.winner || ' of the ERP' ELSE '' END
        FROM ranked r WHERE s.run_id = ${run.runId} AND s.n = r.n AND r.place > 1`,
  )
}

/**
 * Finds the rows of staged products that have none yet by their SKU. A row whose ERP id is archived or gone is taken over;
 * one that belongs to another product of the ERP is not.
 */
export async function linkBySku(tx: Tx, run: SyncRun, view: Traversal, range?: StagedRange): Promise<void> {
  const { siteId } = run
  const homeless = sql`
    ${stagedOf(run, 'product', range)} AND s.refusal IS NULL AND ${rowOf(run, sql`s.erp_id`)} IS NULL`
  const sameSku = sql`
    JOIN LATERAL (
      SELECT q.* FROM public.website_products q WHERE ${isAtSite(sql`q`, run)} AND q.sku = s.sku OFFSET 0) q ON true`
  // idx_website_products_sku, keys of erp_ids. SKUs are unique among staged products that aren't refused.
  await tx.execute(
    sql`INSERT INTO website_worker.erp_ids (site_id, entity, erp_id, row_id)
        SELECT ${siteId}, 'product', s.erp_id, q.id
        FROM website_worker.sync_staging s ${sameSku}
        WHERE ${homeless}
          AND (SELECT o.row_id FROM website_worker.erp_ids o WHERE o.entity = 'product' AND o.row_id = q.id) IS NULL`,
  )
  // As above.
  const { rows } = await tx.execute(
    sql`SELECT s.n, s.sku, s.erp_id AS "erpId", coalesce(s.doc ->> 'status', 'active') = 'active' AS "isActive", q.id,
          o.erp_id AS owner, ${isDead(view)} AS "isDead"
        FROM website_worker.sync_staging s ${sameSku} ${toOwner(run)} WHERE ${homeless}`,
  )
  const found = rows as unknown as TakenRow[]
  await refuse(
    tx,
    run,
    found
      .filter((row) => !row.isDead)
      .map(({ n, sku, owner, isActive }) => ({
        n,
        reason: isActive ? `SKU ${sku} belongs to product ${owner} of the ERP` : '',
      })),
  )
  await takeOver(
    tx,
    run,
    found.filter((row) => row.isDead),
  )
}

interface TakenRow {
  n: number
  sku: string
  erpId: string
  isActive: boolean
  id: number
  owner: string
  isDead: boolean
}

async function takeOver(tx: Tx, { siteId }: SyncRun, rows: readonly TakenRow[]): Promise<void> {
  if (rows.length === 0) return
  // erp_ids_row and the primary key of erp_products. Versions of one id say nothing about those of another.
  await tx.execute(
    sql`WITH taken AS (
          UPDATE website_worker.erp_ids o SET erp_id = r."erpId"
          FROM json_to_recordset(${JSON.stringify(rows)}::json) AS r("erpId" text, id int)
          WHERE o.site_id = ${siteId} AND o.entity = 'product' AND o.row_id = r.id
          RETURNING o.row_id)
        UPDATE website_worker.erp_products ep SET version = '-Infinity' FROM taken WHERE ep.product_id = taken.row_id`,
  )
}
