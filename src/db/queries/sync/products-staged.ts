import { sql, type SQL } from 'drizzle-orm'
import type { Db, Tx } from '../../client.ts'
import { lastStaged, type StagedRange } from './levels.ts'
import type { SyncRun } from './run.ts'

/** What a run knows of the ERP beside its good records. */
export interface Traversal {
  /** Everything was read and can be told apart: what isn't staged isn't there any more. */
  isComplete: boolean
  /** A full run that can't be complete, because a bad record has neither id nor SKU. */
  isSpoilt: boolean
  /** Of bad records that staging doesn't hold by their id. */
  badIds: string[]
  badSkus: string[]
}

/** Reads which records of a run are bad. */
export async function readTraversal(db: Db | Tx, { runId, mode }: SyncRun): Promise<Traversal> {
  // Primary key of staging.
  const { rows } = await db.execute(
    sql`SELECT coalesce(bool_or(r.entity = 'product' AND r.named IS NULL AND r.sku IS NULL), false) AS spoilt,
          coalesce(array_agg(r.named) FILTER (WHERE r.erp_id IS NULL AND r.named IS NOT NULL), '{}') AS ids,
          coalesce(array_agg(r.sku) FILTER (WHERE r.entity = 'product' AND r.named IS NULL AND r.sku IS NOT NULL), '{}') AS skus
        FROM (
          SELECT s.doc ->> 'entity' AS entity, s.doc ->> 'erpId' AS named, s.erp_id, s.sku
          FROM website_worker.sync_staging s WHERE s.run_id = ${runId} AND s.kind = 'reject') r`,
  )
  const { spoilt, ids, skus } = rows[0] as { spoilt: boolean; ids: string[]; skus: string[] }
  const isFull = mode === 'full'
  return { isComplete: isFull && !spoilt, isSpoilt: isFull && spoilt, badIds: ids, badSkus: skus }
}

/** A list of texts as one parameter. */
export const texts = (values: readonly string[]): SQL => sql`${sql.param(values)}::text[]`

/** A list of ids as one parameter. */
export const ints = (values: readonly number[]): SQL => sql`${sql.param(values)}::int[]`

/** Staged records `s` of a run, of one kind. Primary key of staging. */
export const stagedOf = ({ runId }: Pick<SyncRun, 'runId'>, kind: 'product' | 'tombstone', range?: StagedRange): SQL =>
  sql`s.run_id = ${runId} AND s.kind = ${kind} ${range ? sql`AND s.n > ${range.after} AND s.n <= ${range.through}` : sql``}`

/**
 * From staged records `s` to the rows `p` of the shop that they are about, and what the ERP said before, `ep`. Primary keys
 * of erp_ids, website_products and erp_products. What the shop has deleted is left alone.
 */
export const toRows = ({ siteId }: Pick<SyncRun, 'siteId'>): SQL => sql`
  JOIN website_worker.erp_ids l ON l.site_id = ${siteId} AND l.entity = 'product' AND l.erp_id = s.erp_id
  JOIN public.website_products p ON p.id = l.row_id AND p.site_id = ${siteId} AND p.deleted_at IS NULL
  LEFT JOIN website_worker.erp_products ep ON ep.product_id = p.id`

/** The record isn't older than what is known of the row. */
export const isNews: SQL = sql`(ep.version IS NULL OR s.version >= ep.version)`

/** What `isWritable` chooses from: staged records `s` and their rows, as in `toRows`. */
export const stagedRows = (run: SyncRun): SQL => sql`website_worker.sync_staging s ${toRows(run)}`

/** Products of a range that can be written. */
export const isWritable = (run: SyncRun, range: StagedRange): SQL =>
  sql`${stagedOf(run, 'product', range)} AND coalesce(s.refusal, '') = '' AND ${isNews}`

/** Fields that a site may keep to itself. */
const leavable = ['name', 'description', 'shortDescription', 'images', 'attributes', 'categories', 'status']

/** Whether the ERP writes a field. */
export const isOurs = ({ fields }: Pick<SyncRun, 'fields'>, field: string): boolean =>
  fields === null || fields.includes(field) || !leavable.includes(field)

/**
 * The row `p` is new to us, and nothing of it was ever synced, or all of it just now: the ERP's word counts as changed.
 * One that something else has synced before keeps its texts until the ERP changes its own.
 */
export const isBlank: SQL = sql`(p.last_synced_at IS NULL OR p.last_synced_at = now() AT TIME ZONE 'UTC')`

/** SKUs of the variants that the staged product `s` of the row `p` has. */
export const variantSkus: SQL = sql`
  CASE WHEN s.doc ? 'skus' THEN ARRAY(SELECT jsonb_array_elements_text(s.doc -> 'skus')) ELSE ARRAY[p.sku::text] END`

/**
 * Lets a transaction plan for sets, whatever its pool is for, and wait for rows of the shop only so briefly that the server
 * doesn't look for deadlocks: it gives way before a transaction of the shop would be chosen.
 */
export async function prepareForSets(tx: Tx): Promise<void> {
  await tx.execute(
    sql`SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true), set_config('enable_seqscan', 'on', true),
          set_config('lock_timeout', '500ms', true)`,
  )
}

/** The ordinal of the last record that a run has staged. Makes the planner know what is there, if that is much. */
export async function measureStaging(db: Db, run: SyncRun): Promise<number> {
  const last = await lastStaged(db, run)
  if (last > 1_000) await db.execute(sql`ANALYZE website_worker.sync_staging`)
  return last
}

/** Staged products of a range that aren't applied because something newer is known; what asked for a sync has its answer. */
export async function passStale(tx: Tx, run: SyncRun, range: StagedRange): Promise<number> {
  // Primary keys.
  const { rows } = await tx.execute(
    sql`WITH stale AS MATERIALIZED (
          SELECT p.id, p.sync_status FROM ${stagedRows(run)}
          WHERE ${stagedOf(run, 'product', range)} AND s.version < ep.version
        ), answered AS (
          UPDATE public.website_products p SET sync_status = 'synced'
          FROM stale WHERE p.id = stale.id AND stale.sync_status = 'pending')
        SELECT count(*)::int AS stale FROM stale`,
  )
  return rows[0]?.stale as number
}
