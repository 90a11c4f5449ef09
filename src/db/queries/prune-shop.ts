import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { untilDone } from './prune-steps.ts'

export interface ShopRetention {
  /** Carts that expired longer ago are removed, with their items. Default: none ever is. */
  cartsDays?: number | undefined
  /** Rows of `website_sync_logs` older than this are removed. Default: none ever is. */
  syncLogsDays?: number | undefined
  signal: AbortSignal
}

const batch = 1_000

/** Removes expired carts and old sync logs, where a retention is set for them; waits for no row that someone is at. */
export async function pruneShop(
  db: Db,
  { cartsDays, syncLogsDays, signal }: ShopRetention,
): Promise<{ carts: number; syncLogs: number }> {
  return {
    carts: cartsDays === undefined ? 0 : await pruneCarts(db, cartsDays, signal),
    // idx_website_sync_logs_created_at, and the rows' primary key.
    syncLogs:
      syncLogsDays === undefined
        ? 0
        : await untilDone(
            db,
            signal,
            batch,
            sql`DELETE FROM public.website_sync_logs WHERE id = ANY (ARRAY(
                  SELECT id FROM public.website_sync_logs
                  WHERE created_at < (now() - ${syncLogsDays} * interval '1 day') AT TIME ZONE 'UTC'
                  ORDER BY created_at LIMIT ${batch} FOR UPDATE SKIP LOCKED))`,
          ),
  }
}

async function pruneCarts(db: Db, days: number, signal: AbortSignal): Promise<number> {
  const expired = sql`expires_at < (now() - ${days} * interval '1 day') AT TIME ZONE 'UTC'`
  // A cart that something else refers to stays, whatever that is.
  const unreferenced = (await readReferrers(db)).map(
    ({ relation, column }) => sql` AND NOT EXISTS (SELECT FROM ${relation} r WHERE r.${column} = c.id)`,
  )
  // idx_website_carts_expires_at, and the rows' primary key; idx_website_cart_items_cart_id for the items that go along.
  return untilDone(
    db,
    signal,
    batch,
    sql`DELETE FROM public.website_carts c WHERE ${expired} AND c.id = ANY (ARRAY(
          SELECT c.id FROM public.website_carts c WHERE ${expired}${sql.join(unreferenced)}
          ORDER BY c.expires_at LIMIT ${batch} FOR UPDATE OF c SKIP LOCKED))`,
  )
}

async function readReferrers(db: Db): Promise<{ relation: SQL; column: SQL }[]> {
  const { rows } = await db.execute<{ relation: string; column: string }>(sql`
    SELECT k.conrelid::regclass::text AS relation, quote_ident(a.attname) AS column
    FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    WHERE k.contype = 'f' AND k.confrelid = 'public.website_carts'::regclass AND k.conparentid = 0
      AND k.conrelid <> 'public.website_cart_items'::regclass`)
  return rows.map(({ relation, column }) => ({ relation: sql.raw(relation), column: sql.raw(column) }))
}
