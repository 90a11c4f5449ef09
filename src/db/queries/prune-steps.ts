import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../client.ts'

export interface PruneOptions {
  /** Event bodies older than this are emptied, and attempts removed; an event's id and hash stay 90 days. */
  payloadsDays: number
  /** Ledger rows of finished deliveries older than this are removed. Default: none ever is. */
  deliveriesDays?: number | undefined
  signal: AbortSignal
}

/** Runs a bounded statement until it finds nothing more, so that no lock or transaction is long. Returns the count. */
export async function untilDone(db: Db, signal: AbortSignal, batch: number, statement: SQL): Promise<number> {
  let total = 0
  while (!signal.aborted) {
    const { rowCount } = await db.execute(statement)
    total += rowCount ?? 0
    if ((rowCount ?? 0) < batch) break
  }
  return total
}

/**
 * Goes through rows in the order of an index, a page a statement, past those that have to stay. The statement answers one
 * row: how many it `looked` at, how many it `removed`, and the `last` position, after which the next page begins. Returns
 * how many were removed.
 */
export async function walk<Position>(
  db: Db,
  signal: AbortSignal,
  batch: number,
  from: Position,
  statement: (after: Position) => SQL,
): Promise<number> {
  let total = 0
  for (let after = from; !signal.aborted;) {
    const { rows } = await db.execute(statement(after))
    const step = rows[0] as unknown as { looked: number; removed: number; last: Position }
    total += step.removed
    if (step.looked < batch) break
    after = step.last
  }
  return total
}

/** Ledger rows up to this id are the main app's own. */
export async function deliveryWatermark(db: Db): Promise<number> {
  // One row.
  const { rows } = await db.execute(
    sql`SELECT coalesce(max(delivery_watermark), 0)::int AS watermark FROM website_worker.installation`,
  )
  return rows[0]!.watermark as number
}
