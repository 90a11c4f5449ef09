import { sql, type SQL } from 'drizzle-orm'
import type { Db, Tx } from '../../client.ts'
import type { SyncRun } from './run.ts'
import { lockCatalog } from './site-lock.ts'

/** Staged rows after one ordinal and up to another. */
export interface StagedRange {
  after: number
  through: number
}

/** What a range of staged records is: how many SKUs, and of how many of them something newer is known already. */
export interface Kept {
  skus: number
  stale: number
}

/** The staged records `l` of a run, or of a range, that count. Primary key of staging. */
export const stagedBetween = ({ runId }: Pick<SyncRun, 'runId'>, kind: string, range?: StagedRange): SQL => sql`(
  SELECT * FROM website_worker.sync_staging
  WHERE run_id = ${runId} AND kind = ${kind} AND refusal IS NULL
    ${range ? sql`AND n > ${range.after} AND n <= ${range.through}` : sql``}) AS l`

/**
 * Leaves each SKU of a run one record that counts, the one of the highest version and of these the last. Doing it again
 * changes nothing.
 */
export async function dropTwins(
  db: Db | Tx,
  { runId }: Pick<SyncRun, 'runId'>,
  kind: 'level' | 'price',
): Promise<void> {
  // Primary key of staging.
  await db.execute(
    sql`UPDATE website_worker.sync_staging s SET refusal = ''
        FROM (
          SELECT ctid AS at, row_number() OVER (PARTITION BY sku ORDER BY version DESC, n DESC) AS place
          FROM website_worker.sync_staging WHERE run_id = ${runId} AND kind = ${kind} AND refusal IS NULL) d
        WHERE s.ctid = d.at AND d.place > 1`,
  )
}

/** Remembers what the ERP says in a range, where that isn't older than what it said before. */
export async function keepLevels(tx: Tx, run: SyncRun, range: StagedRange): Promise<Kept> {
  const { siteId } = run
  // Primary keys of staging and erp_stock, each row by its place. What stands there is updated and the rest inserted, since
  // nobody else writes at the same time.
  const { rows } = await tx.execute(
    sql`WITH page AS MATERIALIZED (
          SELECT l.sku, l.quantity, l.version, s.at, s.version AS had, s.quantity AS was
          FROM ${stagedBetween(run, 'level', range)}
          LEFT JOIN LATERAL (
            SELECT s.ctid AS at, s.quantity, s.version FROM website_worker.erp_stock s
            WHERE s.site_id = ${siteId} AND s.sku = l.sku OFFSET 0) s ON true),
        updated AS (
          UPDATE website_worker.erp_stock s SET quantity = k.quantity, version = k.version
          FROM page k WHERE s.ctid = k.at AND (k.version > k.had OR k.version = k.had AND k.quantity <> k.was)),
        inserted AS (
          INSERT INTO website_worker.erp_stock (site_id, sku, quantity, version)
          SELECT ${siteId}, k.sku, k.quantity, k.version FROM page k WHERE k.had IS NULL)
        SELECT count(*)::int AS skus, count(*) FILTER (WHERE version < had)::int AS stale FROM page`,
  )
  return rows[0] as unknown as Kept
}

/** The highest ordinal that a run has staged; 0 for none. */
export async function lastStaged(db: Db | Tx, { runId }: Pick<SyncRun, 'runId'>): Promise<number> {
  // Primary key of staging, from its end.
  const { rows } = await db.execute(
    sql`SELECT coalesce(max(n), 0)::int AS n FROM website_worker.sync_staging WHERE run_id = ${runId}`,
  )
  return rows[0]!.n as number
}

/** Lets whatever the ERP says of a site's stock next count as newer: it was restored from a backup. */
export async function forgetStockVersions(tx: Tx, siteId: number): Promise<void> {
  await lockCatalog(tx, { siteId })
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.erp_stock SET version = '-Infinity' WHERE site_id = ${siteId} AND version <> '-Infinity'`,
  )
}
