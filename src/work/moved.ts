import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import type { LanesOf } from './ring-due.ts'
import { unpark } from './transitions.ts'

interface Parked {
  workId: number
  job: string
  lane: string
  payload: unknown
}

/**
 * Takes items out of lanes that lead somewhere else by now: their URL was edited, their webhook switched off or deleted.
 * What waits for a remote that is gone would otherwise wait with it. Walks all that is parked in pages, as far as it gets
 * in one call, and goes on from there in the next. `budgetMs`: when a call takes no further page. Default: 100.
 */
export function createMovedSweep(
  deps: { db: Db; jobs: readonly JobDefinition[]; lanesOf: ReadonlyMap<string, LanesOf> },
  options: { pageSize?: number; budgetMs?: number } = {},
): () => Promise<number> {
  const { pageSize = 1_000, budgetMs = 100 } = options
  let after = sql``

  async function astray(job: JobDefinition, items: readonly Parked[]): Promise<number[]> {
    const lanesOf = deps.lanesOf.get(job.name)
    if (!lanesOf || items.length === 0) return []
    const lanes = await lanesOf(
      deps.db,
      items.filter(({ payload }) => job.schema.safeParse(payload).success),
    )
    return items.filter(({ workId, lane }) => lanes.get(workId)?.lane !== lane).map(({ workId }) => workId)
  }

  async function sweepPage(): Promise<{ found: number; more: boolean }> {
    // work_parked.
    const { rows } = await deps.db.execute(
      sql`SELECT w.id AS "workId", w.job, w.lane, w.payload, w.next_at::text AS next_at FROM website_worker.work w
          WHERE w.state = 'owed' AND w.rung_at IS NULL AND w.lane IS NOT NULL ${after}
          ORDER BY w.lane, w.next_at, w.id LIMIT ${pageSize}`,
    )
    const parked = rows.map((row) => ({ ...(row as unknown as Parked), workId: Number(row.workId) }))
    const found: number[] = []
    for (const job of deps.jobs) {
      found.push(
        ...(await astray(
          job,
          parked.filter((item) => item.job === job.name),
        )),
      )
    }
    if (found.length > 0) await unpark(deps.db, found)
    const last = rows.length === pageSize ? rows.at(-1) : undefined
    after = last
      ? sql`AND (w.lane, w.next_at, w.id) > (${last.lane}, ${last.next_at}::timestamptz, ${last.workId})`
      : sql``
    return { found: found.length, more: last !== undefined }
  }

  return async function sweep() {
    const until = performance.now() + budgetMs
    for (let found = 0; ;) {
      const page = await sweepPage()
      found += page.found
      if (!page.more || performance.now() >= until) return found
    }
  }
}
