import { sql } from 'drizzle-orm'
import type { SyncType } from '../../../erp.ts'
import type { Db, Tx } from '../../client.ts'
import { enqueueItem } from '../enqueue.ts'

/** How many asks one run takes. */
const mostAsks = 5_000

/** SKUs that were asked for and that no run has brought yet. */
export interface Asks {
  ids: number[]
  skus: string[]
}

/** Notes that some SKUs of a stream are wanted; a run that takes asks has to be owed, too. */
export async function addAsks(tx: Tx, siteId: number, type: SyncType, skus: readonly string[]): Promise<void> {
  await tx.execute(
    sql`INSERT INTO website_worker.erp_asks (site_id, type, sku)
        SELECT ${siteId}, ${type}, u.sku FROM unnest(${sql.param([...skus])}::text[]) AS u(sku)`,
  )
}

/** The oldest asks of a stream, as a run that begins sees them. */
export async function readAsks(tx: Tx, siteId: number, type: SyncType): Promise<Asks> {
  // erp_asks_site.
  const { rows } = await tx.execute<{ id: string; sku: string }>(
    sql`SELECT id, sku FROM website_worker.erp_asks WHERE site_id = ${siteId} AND type = ${type} ORDER BY id LIMIT ${mostAsks}`,
  )
  return { ids: rows.map((row) => Number(row.id)), skus: [...new Set(rows.map((row) => row.sku))] }
}

/** Takes asks for answered. What is left, or has come since, is owed to another run. */
export async function endAsks(
  tx: Tx,
  job: string,
  siteId: number,
  type: SyncType,
  ids: readonly number[],
): Promise<void> {
  // Primary key.
  await tx.execute(sql`DELETE FROM website_worker.erp_asks WHERE id = ANY (${sql.param([...ids])}::bigint[])`)
  // erp_asks_site.
  const { rowCount } = await tx.execute(
    sql`SELECT FROM website_worker.erp_asks WHERE site_id = ${siteId} AND type = ${type} LIMIT 1`,
  )
  if (rowCount) await enqueueItem(tx, job, { siteId, asked: true }, { rung: false, trigger: 'discovery' })
}

/** Which of some SKUs the ERP said nothing of in a run. */
export async function unansweredSkus(tx: Db | Tx, runId: number, skus: readonly string[]): Promise<string[]> {
  // The primary key of sync_staging, of which a targeted run is a small part.
  const { rows } = await tx.execute<{ sku: string }>(
    sql`SELECT u.sku FROM unnest(${sql.param([...skus])}::text[]) AS u(sku)
        EXCEPT SELECT s.sku FROM website_worker.sync_staging s WHERE s.run_id = ${runId} AND s.sku IS NOT NULL`,
  )
  return rows.map((row) => row.sku)
}

/**
 * Lets no product wait for what has come or won't: of the pending ones with these SKUs those that the ERP doesn't know
 * become an error, with a log row, and the others are in step. Returns how many are an error.
 */
export async function endPending(
  tx: Tx,
  siteId: number,
  skus: readonly string[],
  unknown: readonly string[],
): Promise<number> {
  // website_products_site_id_sku_key; in id order, as every statement over many products.
  const { rows } = await tx.execute(
    sql`WITH waiting AS MATERIALIZED (
          SELECT p.id, p.sku, p.sku = ANY (${sql.param([...unknown])}::text[]) AS "isUnknown" FROM public.website_products p
          WHERE p.site_id = ${siteId} AND p.sku = ANY (${sql.param([...skus])}::text[])
            AND p.sync_status = 'pending' AND p.deleted_at IS NULL
          ORDER BY p.id FOR UPDATE),
        ended AS (
          UPDATE public.website_products p
          SET sync_status = CASE WHEN w."isUnknown" THEN 'error' ELSE 'synced' END,
              last_synced_at = CASE WHEN w."isUnknown" THEN p.last_synced_at ELSE now() AT TIME ZONE 'UTC' END
          FROM waiting w WHERE p.id = w.id RETURNING p.id),
        logged AS (
          INSERT INTO public.website_sync_logs (site_id, sync_type, entity_type, entity_id, status, error_message, data_snapshot, created_at)
          SELECT ${siteId}, 'product', 'product', w.id, 'error', 'the ERP knows no product of this SKU',
            jsonb_build_object('sku', w.sku), now() AT TIME ZONE 'UTC'
          FROM waiting w WHERE w."isUnknown" ORDER BY w.id RETURNING id)
        SELECT count(*)::int AS count FROM logged`,
  )
  return rows[0]?.['count'] as number
}
