import { sql, type SQL } from 'drizzle-orm'
import { transact, type Db } from '../../client.ts'
import { prepareForSets } from './products-staged.ts'

/** How a site compares with what a run has read of its ERP. */
export interface Drift {
  /** Rows that the ERP has. */
  erp: number
  /** Rows that the shop has. */
  shop: number
  /** Pairs of them that were compared. */
  compared: number
  differing: number
  /** Over what was compared; they are equal exactly if nothing differs. */
  erpHash: string
  shopHash: string
}

/** One hash over all rows of a side, in whatever order: a sum, so that equal rows don't take each other out. */
const hashOf = (side: SQL): SQL => sql`md5(coalesce(sum(hash_record_extended(${side}, 0)::numeric), 0)::text)`

/**
 * Compares pairs in one statement. `ctes` ends with `pairs`: `erp` and `shop`, each a row of the same columns, or null
 * where that side has none; `erp` and `shop` count the rows of each side. `isWhole`: all of both sides meet,
 * so never row by row, whatever the planner believes of tables that were just filled. Default: false.
 */
export async function compare(
  db: Db,
  ctes: SQL,
  counts: { erp: SQL; shop: SQL },
  { isWhole = false }: { isWhole?: boolean } = {},
): Promise<Drift> {
  const { rows } = await transact(db, async (tx) => {
    await prepareForSets(tx)
    if (isWhole) await tx.execute(sql`SET LOCAL enable_nestloop = off`)
    return tx.execute(
      sql`WITH ${ctes}
        SELECT (${counts.erp})::int AS erp, (${counts.shop})::int AS shop, count(*)::int AS compared,
          count(*) FILTER (WHERE p.erp IS DISTINCT FROM p.shop)::int AS differing,
          ${hashOf(sql`p.erp`)} AS "erpHash", ${hashOf(sql`p.shop`)} AS "shopHash"
        FROM pairs p`,
    )
  })
  return rows[0] as unknown as Drift
}
