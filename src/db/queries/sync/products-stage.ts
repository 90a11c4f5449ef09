import { sql } from 'drizzle-orm'
import type { ErpProduct, ErpRecords, ErpReject } from '../../../erp.ts'
import type { Tx } from '../../client.ts'
import { isStagedAs } from './products-staged.ts'
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

function productRow({ erpId, sku, version, ...doc }: ErpProduct): Row {
  const skus = doc.variants?.map((variant) => variant.sku) ?? []
  const categories = doc.categories && { categories: [...new Set(doc.categories)] }
  return { kind: 'product', erpId, sku, version, doc: { ...doc, ...categories, ...(skus.length > 0 && { skus }) } }
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
 * later page the highest version stays; between a good and a bad record the later one does.
 */
export async function stageProducts(tx: Tx, { runId }: SyncRun, records: ErpRecords, first: number): Promise<number> {
  const rows = rowsOf(records)
  if (rows.length === 0) return first
  // sync_staging_erp_id, and the primary key. The update and the insert see the same snapshot: no row is in both.
  const { rows: inserted } = await tx.execute(
    sql`WITH page AS MATERIALIZED (
          SELECT r.*, s.n
          FROM (
            SELECT e.r ->> 'kind' AS kind, e.r ->> 'erpId' AS erp_id, e.r ->> 'sku' AS sku,
              (e.r ->> 'version')::numeric AS version, e.r -> 'doc' AS doc, e.at
            FROM jsonb_array_elements(${JSON.stringify(rows)}::jsonb) WITH ORDINALITY AS e(r, at) OFFSET 0) r
          LEFT JOIN LATERAL (
            SELECT s.n FROM website_worker.sync_staging s
            WHERE ${isStagedAs({ runId }, sql`s`, sql`r.erp_id`)} OFFSET 0) s ON true
        ), updated AS (
          UPDATE website_worker.sync_staging s SET kind = r.kind, sku = r.sku, version = r.version, doc = r.doc
          FROM page r WHERE s.run_id = ${runId} AND s.n = r.n
            AND (s.kind = 'reject' OR r.kind = 'reject' OR r.version >= s.version)
        ), inserted AS (
          INSERT INTO website_worker.sync_staging (run_id, n, kind, erp_id, sku, version, doc)
          SELECT ${runId}, ${first - 1} + row_number() OVER (ORDER BY r.at), r.kind, r.erp_id, r.sku, r.version, r.doc
          FROM page r WHERE r.n IS NULL
          RETURNING 1)
        SELECT count(*)::int AS rows FROM inserted`,
  )
  return first + (inserted[0]?.rows as number)
}
