import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import type { SyncRun } from './run.ts'

/** A record on its way into staging. */
export interface StagedRow {
  kind: 'product' | 'tombstone' | 'level' | 'price' | 'reject'
  /** Of an id that comes again one record is kept; null where several may stand beside each other. */
  erpId?: string | null
  sku: string | null
  version?: string | null
  /** What there is to say besides. */
  doc?: object | true | null
  quantity?: number
  price?: string
  compareAtPrice?: string | null
}

/** Keeps a page in the run's staging, whole, so that the next one can be asked for; returns the ordinal after its last. */
export async function keepPage(
  tx: Tx,
  { runId }: Pick<SyncRun, 'runId'>,
  rows: readonly StagedRow[],
  first: number,
): Promise<number> {
  if (rows.length === 0) return first
  await tx.execute(
    sql`INSERT INTO website_worker.sync_staging (run_id, n, kind, page)
        VALUES (${runId}, ${first}, 'page', ${JSON.stringify(rows)})`,
  )
  return first + rows.length
}

/**
 * Makes records of the page that was kept last, if they aren't made yet. Of an ERP id that comes again on a later page the
 * highest version stays, and its first ordinal; between a good and a bad record the later one does.
 */
export async function unpackPage(tx: Tx, { runId }: Pick<SyncRun, 'runId'>): Promise<void> {
  // The primary key, from its end, and sync_staging_erp_id.
  await tx.execute(
    sql`WITH kept AS (
          DELETE FROM website_worker.sync_staging k
          WHERE k.run_id = ${runId} AND k.kind = 'page'
            AND k.n = (SELECT max(n) FROM website_worker.sync_staging WHERE run_id = ${runId})
          RETURNING k.n, k.page)
        INSERT INTO website_worker.sync_staging AS s
          (run_id, n, kind, erp_id, sku, version, doc, quantity, price, compare_at_price)
        SELECT ${runId}, k.n - 1 + r.at, r.kind, r.erp_id, r.sku, r.version, r.doc, r.quantity, r.price, r.compare
        FROM kept k
        CROSS JOIN LATERAL ROWS FROM (json_to_recordset(k.page::json) AS (kind text, "erpId" text, sku text, version numeric,
            doc jsonb, quantity int, price numeric, "compareAtPrice" numeric))
          WITH ORDINALITY AS r(kind, erp_id, sku, version, doc, quantity, price, compare, at)
        ORDER BY r.at
        ON CONFLICT (erp_id, run_id) WHERE erp_id IS NOT NULL DO UPDATE
        SET kind = excluded.kind, sku = excluded.sku, version = excluded.version, doc = excluded.doc
        WHERE s.kind = 'reject' OR excluded.kind = 'reject' OR excluded.version >= s.version`,
  )
}
