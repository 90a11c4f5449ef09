import { sql } from 'drizzle-orm'
import type { ErpProduct, ErpRecords, ErpReject } from '../../../erp.ts'
import type { Tx } from '../../client.ts'
import type { SyncRun } from './run.ts'

/** A record on its way into staging. */
interface Row {
  kind: 'product' | 'tombstone' | 'reject'
  /** Null where staging may hold several of an id. */
  erpId: string | null
  sku: string | null
  version: string | null
  doc: object | null
}

function productRow({ erpId, sku, version, ...fields }: ErpProduct): Row {
  const doc: typeof fields & { skus?: string[] } = fields
  if (doc.categories) doc.categories = [...new Set(doc.categories)]
  if (doc.variants && doc.variants.length > 0) doc.skus = doc.variants.map((variant) => variant.sku)
  return { kind: 'product', erpId, sku, version, doc }
}

function rejectRow({ erpId, sku, ...doc }: ErpReject, isOnly: boolean): Row {
  return { kind: 'reject', erpId: isOnly ? erpId : null, sku, version: null, doc: { ...doc, erpId } }
}

/** A page's records, one for each ERP id: the highest version; what is bad stands beside what is good. */
function rowsOf({ products, tombstones, rejects }: Pick<ErpRecords, 'products' | 'tombstones' | 'rejects'>): Row[] {
  const named = new Map<string, Row>()
  const take = (erpId: string, version: string, row: () => Row) => {
    const known = named.get(erpId)?.version
    if (!known || BigInt(version) >= BigInt(known)) named.set(erpId, row())
  }
  for (const product of products) take(product.erpId, product.version, () => productRow(product))
  for (const { erpId, sku, version } of tombstones) {
    take(erpId, version, () => ({ kind: 'tombstone', erpId, sku, version, doc: null }))
  }
  const unnamed: Row[] = []
  for (const reject of rejects) {
    const { entity, erpId } = reject
    if (entity === 'product' && erpId !== null && !named.has(erpId)) named.set(erpId, rejectRow(reject, true))
    else unnamed.push(rejectRow(reject, false))
  }
  return [...named.values(), ...unnamed]
}

/**
 * Keeps a page of products in the run's staging, from an ordinal on; returns the next. Of an ERP id that comes again on a
 * later page the highest version stays, and its first ordinal; between a good and a bad record the later one does.
 */
export async function stageProducts(tx: Tx, { runId }: SyncRun, records: ErpRecords, first: number): Promise<number> {
  const rows = rowsOf(records)
  if (rows.length === 0) return first
  // sync_staging_erp_id, and the primary key.
  await tx.execute(
    sql`INSERT INTO website_worker.sync_staging AS s (run_id, n, kind, erp_id, sku, version, doc)
        SELECT ${runId}, ${first - 1} + r.at, r.kind, r.erp_id, r.sku, r.version, r.doc
        FROM ROWS FROM (json_to_recordset(${JSON.stringify(rows)}::json)
               AS (kind text, "erpId" text, sku text, version numeric, doc jsonb))
          WITH ORDINALITY AS r(kind, erp_id, sku, version, doc, at)
        ORDER BY r.at
        ON CONFLICT (erp_id, run_id) WHERE erp_id IS NOT NULL DO UPDATE
        SET kind = excluded.kind, sku = excluded.sku, version = excluded.version, doc = excluded.doc
        WHERE s.kind = 'reject' OR excluded.kind = 'reject' OR excluded.version >= s.version`,
  )
  return first + rows.length
}
