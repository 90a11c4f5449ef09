import { sql } from 'drizzle-orm'
import type { SyncMode, SyncType } from '../../../erp.ts'
import type { Tx } from '../../client.ts'

/** A run as the main app's log tells of it. */
export interface RunLog {
  siteId: number
  type: SyncType
  runId: number
  mode: SyncMode
  /** What went wrong; null for a run that went well. */
  error: string | null
  counts: object
}

/** Writes a run into website_sync_logs. */
export async function logRun(tx: Tx, { siteId, type, runId, mode, error, counts }: RunLog): Promise<void> {
  await tx.execute(
    sql`INSERT INTO public.website_sync_logs (site_id, sync_type, entity_type, status, error_message, data_snapshot, created_at)
        VALUES (${siteId}, ${type}, 'run', ${error === null ? 'success' : 'error'}, ${error},
          ${JSON.stringify({ runId, mode, counts })}::jsonb
            || jsonb_build_object('finishedAt', website_worker.instant_text(now())), now() AT TIME ZONE 'UTC')`,
  )
}
