import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { ringId } from './bell.ts'
import type { QueueBackend } from './backend.ts'
import { rearm } from './transitions.ts'

/**
 * Finds owed items that were rung a while ago and whose ring is no longer in the queue: its process died between
 * commit and ring, or between ring and run. Walks the owed list in pages, as far as it gets in one call, and goes on
 * from there in the next. `budgetMs`: when a call takes no further page. Default: 200.
 */
export function createLostRingSweep(
  deps: { db: Db; backend: QueueBackend },
  options: { afterMs?: number; pageSize?: number; budgetMs?: number } = {},
) {
  const { afterMs = 15_000, pageSize = 500, budgetMs = 200 } = options
  let after = sql``

  async function sweepPage(): Promise<{ found: number; more: boolean }> {
    // work_owed_rung; the order names the table's columns, since a name of the output would sort by its text.
    const { rows } = await deps.db.execute(
      sql`SELECT w.id, w.job, w.generation, w.next_at::text AS next_at FROM website_worker.work w
          WHERE w.state = 'owed' AND w.rung_at IS NOT NULL AND w.rung_at < now() - ${afterMs} * interval '1 ms'
            AND w.next_at < now() - ${afterMs} * interval '1 ms' ${after}
          ORDER BY w.next_at, w.id LIMIT ${pageSize}`,
    )
    const lost = await Promise.all(
      rows.map(async (row) => {
        const ring = { workId: Number(row.id), generation: row.generation as number }
        const job = await deps.backend.queue(row.job as string).getJob(ringId(ring))
        return job && !job.finishedOn ? undefined : ring
      }),
    )
    const rings = lost.filter((ring) => ring !== undefined)
    if (rings.length > 0) await rearm(deps.db, rings)
    const last = rows.length === pageSize ? rows.at(-1) : undefined
    after = last ? sql`AND (w.next_at, w.id) > (${last.next_at}::timestamptz, ${last.id})` : sql``
    return { found: rings.length, more: last !== undefined }
  }

  return async function sweep(): Promise<number> {
    const until = performance.now() + budgetMs
    for (let found = 0; ;) {
      const page = await sweepPage()
      found += page.found
      if (!page.more || performance.now() >= until) return found
    }
  }
}
