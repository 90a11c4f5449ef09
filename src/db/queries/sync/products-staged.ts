import { sql, type SQL } from 'drizzle-orm'
import type { Db, Tx } from '../../client.ts'
import type { StagedRange } from './levels.ts'
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
  /** Slugs of the site's categories. */
  categories: string[]
}

/** Reads which records of a run are bad. */
export async function readTraversal(db: Db, run: SyncRun): Promise<Traversal> {
  // Primary key of staging; idx_website_categories_site_id.
  const { rows } = await db.execute(
    sql`SELECT coalesce(bool_or(r.entity = 'product' AND r.named IS NULL AND r.sku IS NULL), false) AS spoilt,
          coalesce(array_agg(r.named) FILTER (WHERE r.erp_id IS NULL AND r.named IS NOT NULL), '{}') AS ids,
          coalesce(array_agg(r.sku) FILTER (WHERE r.entity = 'product' AND r.named IS NULL AND r.sku IS NOT NULL), '{}') AS skus,
          ARRAY(SELECT c.slug::text FROM public.website_categories c
                WHERE c.site_id = ${run.siteId} AND c.deleted_at IS NULL) AS categories
        FROM (
          SELECT s.doc ->> 'entity' AS entity, s.doc ->> 'erpId' AS named, s.erp_id, s.sku
          FROM website_worker.sync_staging s WHERE s.run_id = ${run.runId} AND s.kind = 'reject') r`,
  )
  const { spoilt, ids, skus, categories } = rows[0] as { spoilt: boolean } & Record<
    'ids' | 'skus' | 'categories',
    string[]
  >
  const isFull = run.mode === 'full'
  return { isComplete: isFull && !spoilt, isSpoilt: isFull && spoilt, badIds: ids, badSkus: skus, categories }
}

/** A list of texts as one parameter. */
export const texts = (values: readonly string[]): SQL => sql`${sql.param(values)}::text[]`

/** A list of ids as one parameter. */
export const ints = (values: readonly number[]): SQL => sql`${sql.param(values)}::int[]`

/**
 * Whether a staged record is a run's of an ERP id. sync_staging_erp_id: the sum keeps the planner, which knows nothing of a
 * run that has just begun, from looking through all of the run by the primary key each time.
 */
export const isStagedAs = ({ runId }: Pick<SyncRun, 'runId'>, record: SQL, erpId: SQL): SQL =>
  sql`${record}.erp_id = ${erpId} AND ${record}.run_id + 0 = ${runId}::bigint`

/**
 * Whether a row of the shop, looked up by its id or SKU, is the site's. The sum keeps the planner, which may know nothing of
 * a table that is just being filled, from looking through all of the site each time: idx_website_products_sku for SKUs.
 */
export const isAtSite = (row: SQL, { siteId }: Pick<SyncRun, 'siteId'>): SQL => sql`${row}.site_id + 0 = ${siteId}`

/** Staged records `s` of a run, of one kind. Primary key of staging. */
export const stagedOf = ({ runId }: Pick<SyncRun, 'runId'>, kind: 'product' | 'tombstone', range?: StagedRange): SQL =>
  sql`s.run_id = ${runId} AND s.kind = ${kind} ${range ? sql`AND s.n > ${range.after} AND s.n <= ${range.through}` : sql``}`

/** The row that an ERP id stands for; null when there is none. Primary key of erp_ids. */
export const rowOf = ({ siteId }: Pick<SyncRun, 'siteId'>, erpId: SQL): SQL => sql`(
  SELECT l.row_id FROM website_worker.erp_ids l WHERE l.site_id = ${siteId} AND l.entity = 'product' AND l.erp_id = ${erpId})`

/**
 * From staged records `s` to the rows `p` of the shop that they are about, and what the ERP said before, `ep`. What the shop
 * has deleted is left alone. Each is looked up by its primary key, whatever the planner believes of tables that were empty
 * a moment ago.
 */
export const toRows = (run: Pick<SyncRun, 'siteId'>): SQL => sql`
  JOIN LATERAL (
    SELECT p.* FROM public.website_products p
    WHERE p.id = ${rowOf(run, sql`s.erp_id`)} AND ${isAtSite(sql`p`, run)} AND p.deleted_at IS NULL OFFSET 0) p ON true
  ${toKnown}`

/** What the ERP said of a row `p` before, `ep`. */
export const toKnown: SQL = sql`
  LEFT JOIN LATERAL (SELECT ep.* FROM website_worker.erp_products ep WHERE ep.product_id = p.id OFFSET 0) ep ON true`

/** The record isn't older than what is known of the row. */
export const isNews: SQL = sql`(ep.version IS NULL OR s.version >= ep.version)`

/** What `isWritable` chooses from: staged records `s` and their rows, as in `toRows`. */
export const stagedRows = (run: SyncRun): SQL => sql`website_worker.sync_staging s ${toRows(run)}`

/** Products of a range that can be written: what this transaction has made is as it should be. */
export const isWritable = (run: SyncRun, range: StagedRange): SQL =>
  sql`${stagedOf(run, 'product', range)} AND coalesce(s.refusal, '') = '' AND ${isNews}
    AND p.last_synced_at IS DISTINCT FROM now() AT TIME ZONE 'UTC'`

/** Fields that a site may keep to itself. */
const leavable = ['name', 'description', 'shortDescription', 'images', 'attributes', 'categories', 'status']

/** Whether the ERP writes a field. */
export const isOurs = ({ fields }: Pick<SyncRun, 'fields'>, field: string): boolean =>
  fields === null || fields.includes(field) || !leavable.includes(field)

/**
 * Nothing of the row `p`, which is new to us, was ever synced: the ERP's word counts as changed. One that something else has
 * synced before keeps its texts until the ERP changes its own.
 */
export const isBlank: SQL = sql`p.last_synced_at IS NULL`

/**
 * Lets a transaction find every row by its key, as its statements do, however large the planner believes the tables are; and
 * wait for rows of the shop only so briefly that the server doesn't look for deadlocks: it gives way before a transaction of
 * the shop would be chosen.
 */
export async function prepareForSets(tx: Tx): Promise<void> {
  await tx.execute(
    sql`SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true),
          set_config('enable_memoize', 'off', true), set_config('random_page_cost', '1.1', true),
          set_config('lock_timeout', '500ms', true)`,
  )
}

/** What of a range isn't applied though it is valid. */
export interface LeftAlone {
  /** Something newer is known. */
  stale: number
  /** The shop has deleted the row. */
  deleted: number
  /** It gives way to another of the same SKU. */
  shadowed: number
}

/** Counts what of a range isn't applied; what was asked for and is stale has its answer. */
export async function passOver(tx: Tx, run: SyncRun, range: StagedRange): Promise<LeftAlone> {
  // Primary keys.
  const { rows } = await tx.execute(
    sql`WITH looked AS MATERIALIZED (
          SELECT p.id, p.sync_status, p.deleted_at IS NOT NULL AS is_deleted, s.refusal = '' AS is_shadowed,
            p.deleted_at IS NULL AND NOT ${isNews} AS is_stale
          FROM website_worker.sync_staging s
          LEFT JOIN LATERAL (
            SELECT p.id, p.sync_status, p.deleted_at FROM public.website_products p
            WHERE p.id = ${rowOf(run, sql`s.erp_id`)} OFFSET 0) p ON true
          ${toKnown}
          WHERE ${stagedOf(run, 'product', range)}
        ), answered AS (
          UPDATE public.website_products p SET sync_status = 'synced'
          FROM looked k WHERE p.id = k.id AND k.is_stale AND k.sync_status = 'pending')
        SELECT count(*) FILTER (WHERE k.is_stale)::int AS stale, count(*) FILTER (WHERE k.is_deleted)::int AS deleted,
          count(*) FILTER (WHERE k.is_shadowed)::int AS shadowed
        FROM looked k`,
  )
  return rows[0] as unknown as LeftAlone
}
