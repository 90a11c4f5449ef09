import { sql } from 'drizzle-orm'
import type { Db } from '../../client.ts'
import { untilDone } from '../prune-steps.ts'

const batch = 5_000

/** Removes what syncs have left, in statements of bounded size. Returns the counts. */
export async function pruneSyncs(
  db: Db,
  signal: AbortSignal,
): Promise<{ syncRuns: number; erpPushes: number; quarantine: number }> {
  const all = (statement: ReturnType<typeof sql>) => untilDone(db, signal, batch, statement)
  return {
    // sync_runs_finished, and the primary key.
    syncRuns: await all(
      sql`DELETE FROM website_worker.sync_runs WHERE id = ANY (ARRAY(
            SELECT id FROM website_worker.sync_runs
            WHERE finished_at < now() - interval '30 days' ORDER BY finished_at LIMIT ${batch}))`,
    ),
    // erp_pushes_at, and the primary key. A message is refused when its time is minutes away, unless it is signed anew.
    erpPushes: await all(
      sql`DELETE FROM website_worker.erp_pushes WHERE id = ANY (ARRAY(
            SELECT id FROM website_worker.erp_pushes WHERE at < now() - interval '7 days' ORDER BY at LIMIT ${batch}))`,
    ),
    // sync_quarantine_resolved, and the primary key.
    quarantine: await all(
      sql`DELETE FROM website_worker.sync_quarantine WHERE id = ANY (ARRAY(
            SELECT id FROM website_worker.sync_quarantine
            WHERE resolved_at < now() - interval '30 days' ORDER BY resolved_at LIMIT ${batch}))`,
    ),
  }
}
