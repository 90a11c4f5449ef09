import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { ringId } from './bell.ts'
import type { QueueBackend } from './backend.ts'
import { rearm } from './transitions.ts'

/**
 * Finds owed items that were rung a while ago and whose ring is no longer in the queue: its process died between
 * commit and ring, or between ring and run. Walks the owed list in pages, one a call, and starts over at the end.
 */
export function createLostRingSweep(
  deps: { db: Db; backend: QueueBackend },
  options: { afterMs?: number; pageSize?: number } = {},
) {
  const afterMs = options.afterMs ?? 15_000
  const pageSize = options.pageSize ?? 500
  let after = sql``

  return async function sweep(): Promise<number> {
    // work_owed_rung.
    const { rows } = await deps.db.execute(
      sql`SELECT id, job, generation, next_at::text AS next_at FROM website_worker.work
          WHERE state = 'owed' AND rung_at IS NOT NULL AND rung_at < now() - ${afterMs} * interval '1 ms'
            AND next_at < now() - ${afterMs} * interval '1 ms' ${after}
          ORDER BY next_at, id LIMIT ${pageSize}`,
    )
    const last = rows.length === pageSize ? rows.at(-1) : undefined
    after = last ? sql`AND (next_at, id) > (${last.next_at}::timestamptz, ${last.id})` : sql``
    const lost = await Promise.all(
      rows.map(async (row) => {
        const ring = { workId: Number(row.id), generation: row.generation as number }
        const job = await deps.backend.queue(row.job as string).getJob(ringId(ring))
        return job && !job.finishedOn ? undefined : ring
      }),
    )
    const rings = lost.filter((ring) => ring !== undefined)
    if (rings.length > 0) await rearm(deps.db, rings)
    return rings.length
  }
}
