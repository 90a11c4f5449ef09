import { sql } from 'drizzle-orm'
import type { SyncType } from '../../../erp.ts'
import type { Db, Tx } from '../../client.ts'
import { forgetStockVersions } from './levels.ts'
import { forgetPriceVersions } from './prices.ts'
import { lockCatalog } from './site-lock.ts'

/** How far a stream has been read. */
export interface Checkpoint {
  source: string
  /** Null: everything has to be read. */
  checkpoint: string | null
  /** When the last full run that was applied began, ms since 1970; null before the first. */
  fullAtMs: number | null
  /** The database's clock. */
  nowMs: number
}

/** How far a stream of a site has been read; undefined before its first run ended. */
export async function findCheckpoint(db: Db | Tx, siteId: number, type: SyncType): Promise<Checkpoint | undefined> {
  // Primary key.
  const { rows } = await db.execute(
    sql`SELECT c.source, c.checkpoint, (extract(epoch FROM c.full_at) * 1000)::float8 AS "fullAtMs",
          (extract(epoch FROM now()) * 1000)::float8 AS "nowMs"
        FROM website_worker.sync_checkpoints c WHERE c.site_id = ${siteId} AND c.type = ${type}`,
  )
  return rows[0] as Checkpoint | undefined
}

/** What a run that ended well says of its stream. */
export interface Success {
  siteId: number
  type: SyncType
  runId: number
  source: string
  /** Where the next traversal begins; null where this run says nothing about that. */
  checkpoint: string | null
  isFull: boolean
  isAudit: boolean
  drift: number | null
}

/** Notes that a stream was read, and up to where. */
export async function noteSuccess(tx: Tx, success: Success): Promise<void> {
  const { siteId, type, runId, source, checkpoint, isFull, isAudit, drift } = success
  // Primary keys.
  await tx.execute(
    sql`INSERT INTO website_worker.sync_checkpoints AS c
          (site_id, type, source, checkpoint, full_at, succeeded_at, drift, audited_at)
        SELECT ${siteId}::int, ${type}::text, ${source}::text, ${checkpoint}::text, CASE WHEN ${isFull} THEN r.started_at END,
          CASE WHEN NOT ${isAudit} THEN now() END, ${drift}::int, CASE WHEN ${drift}::int IS NOT NULL THEN now() END
        FROM website_worker.sync_runs r WHERE r.id = ${runId}
        ON CONFLICT (site_id, type) DO UPDATE SET
          source = CASE WHEN excluded.checkpoint IS NULL THEN c.source ELSE excluded.source END,
          checkpoint = coalesce(excluded.checkpoint, c.checkpoint), full_at = coalesce(excluded.full_at, c.full_at),
          succeeded_at = coalesce(excluded.succeeded_at, c.succeeded_at), drift = coalesce(excluded.drift, c.drift),
          audited_at = coalesce(excluded.audited_at, c.audited_at), changed_at = now(),
          error = CASE WHEN excluded.checkpoint IS NULL THEN c.error END,
          logged_at = CASE WHEN excluded.checkpoint IS NULL THEN c.logged_at END`,
  )
}

/** Notes that a stream could not be read. Returns whether that is news: another reason, or the same for an hour. */
export async function noteFailure(tx: Tx, siteId: number, type: SyncType, error: string): Promise<boolean> {
  const isNews = sql`(c.error IS DISTINCT FROM excluded.error OR c.logged_at IS NULL OR c.logged_at < now() - interval '1 hour')`
  // Primary key.
  const { rows } = await tx.execute(
    sql`INSERT INTO website_worker.sync_checkpoints AS c (site_id, type, source, failed_at, error, logged_at)
        VALUES (${siteId}, ${type}, '', now(), ${error}, now())
        ON CONFLICT (site_id, type) DO UPDATE SET failed_at = now(), error = excluded.error, changed_at = now(),
          logged_at = CASE WHEN ${isNews} THEN now() ELSE c.logged_at END
        RETURNING logged_at = now() AS "isNews"`,
  )
  return rows[0]?.['isNews'] as boolean
}

/** How a stream of a site fares. */
export interface StreamState {
  siteId: number
  type: string
  /** Rows that differed at the last audit; null before the first. */
  drift: number | null
  /** Seconds since it was last read to its end; null before the first time. */
  age: number | null
}

/** How every stream of every site that isn't deleted fares. */
export async function readStreams(db: Db): Promise<StreamState[]> {
  // A row a site and stream; website_sites_pkey.
  const { rows } = await db.execute(
    sql`SELECT c.site_id AS "siteId", c.type, c.drift, extract(epoch FROM now() - c.succeeded_at)::float8 AS age
        FROM website_worker.sync_checkpoints c JOIN public.website_sites s ON s.id = c.site_id AND s.deleted_at IS NULL`,
  )
  return rows as unknown as StreamState[]
}

/** Forgets how far a stream was read and which versions came, for an ERP whose own count began anew. */
export async function forgetVersions(tx: Tx, siteId: number, type: SyncType): Promise<void> {
  // sync_runs_running. What was read before must not be applied after; whoever is just writing is waited for, in the order
  // in which he takes his locks.
  await tx.execute(
    sql`UPDATE website_worker.sync_runs SET state = 'abandoned', finished_at = now(), error = 'versions were reset'
        WHERE site_id = ${siteId} AND type = ${type} AND state = 'running'`,
  )
  await dropVersions(tx, siteId, type)
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.sync_checkpoints SET checkpoint = NULL, changed_at = now()
        WHERE site_id = ${siteId} AND type = ${type}`,
  )
}

/** Lets whatever the ERP says of a stream next count as newer. */
export async function dropVersions(tx: Tx, siteId: number, type: SyncType): Promise<void> {
  if (type === 'inventory') return forgetStockVersions(tx, siteId)
  if (type === 'price') return forgetPriceVersions(tx, siteId)
  await lockCatalog(tx, { siteId })
  // erp_products_site.
  await tx.execute(
    sql`UPDATE website_worker.erp_products SET version = '-Infinity' WHERE site_id = ${siteId} AND version <> '-Infinity'`,
  )
}
