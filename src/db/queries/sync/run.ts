import { sql } from 'drizzle-orm'
import { AppError } from '../../../errors.ts'
import type { SyncMode, SyncType } from '../../../erp.ts'
import type { Tx } from '../../client.ts'

/** A run of one stream of one site, as its steps see it. */
export interface SyncRun {
  runId: number
  siteId: number
  type: SyncType
  mode: SyncMode
  /** Whoever holds it may write. */
  token: string
  /** Lets the mass-change brake pass. */
  force: boolean
  /** The site's first import: no events about it. */
  isFirst: boolean
  /** The ERP has a price stream: products bring their price only when they are new. */
  hasPriceStream: boolean
  /** Orders are pushed: what they took and the ERP doesn't know of yet is taken off its stock. */
  pushesOrders: boolean
  /** Fields that the ERP writes, of those that can be left to the shop. Null: all. */
  fields: readonly string[] | null
  /** How far an apply that was broken off had come. */
  appliedThrough: number
}

/** What a run would do, for the mass-change brake. */
export interface Judgement {
  /** Products of the site that are not deleted. */
  products: number
  /** Of those: price to zero, stock to zero, to inactive. */
  losingPrice: number
  losingStock: number
  deactivated: number
}

/** What a run did, by word; e.g. `inserted`, `updated`, `unchanged`, `stale`, `unknown`, `deactivated`, `quarantined`. */
export type ApplyCounts = Readonly<Record<string, number>>

/**
 * Locks the run's row, so that only its holder writes, and only while what it has staged is there: a crash of the server
 * forgets all of it, and the first row with the others. `shared`: beside other transactions of the holder's.
 * @throws AppError `conflict` when another process has taken it over, or it must begin anew
 */
export async function fence(
  tx: Tx,
  { runId, token }: Pick<SyncRun, 'runId' | 'token'>,
  { shared = false }: { shared?: boolean } = {},
): Promise<void> {
  // Primary keys.
  const { rowCount } = await tx.execute(
    sql`SELECT FROM website_worker.sync_runs r
        WHERE r.id = ${runId} AND r.token = ${token}::uuid AND r.state = 'running'
          AND (r.staged = 0 OR EXISTS (SELECT FROM website_worker.sync_staging s WHERE s.run_id = r.id AND s.n = 1))
        ${shared ? sql`FOR SHARE OF r` : sql`FOR UPDATE OF r`}`,
  )
  if (rowCount === 0) throw new AppError('conflict', `Run ${runId} was taken over, or what it had read is lost`)
}

/** Notes, in the transaction that wrote it, up to where the run is applied. */
export async function noteApplied(tx: Tx, { runId }: Pick<SyncRun, 'runId'>, through: number): Promise<void> {
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.sync_runs
        SET applied_through = ${through}, lease_until = greatest(lease_until, clock_timestamp() + interval '30 s')
        WHERE id = ${runId}`,
  )
}
