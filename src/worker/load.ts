import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { mayPass } from '../db/unreachable.ts'
import { messageOf } from '../errors.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import { answerAsks } from '../work/asked-again.ts'
import type { RingData } from '../work/backend.ts'
import { createBatcher } from './batcher.ts'
import type { AnyProcessor } from './processor.ts'

/** A work item as a run finds it. */
export interface LoadedItem {
  workId: number
  generation: number
  state: string
  reason: string | null
  lastError: string | null
  attempts: number
  siteId: number | null
  /** The lane that rang it; null when it didn't have to wait for its turn. */
  lane: string | null
  trigger: string
  payload: unknown
  /** Why its site's or domain's switch keeps it from running; null when it may. */
  blocked: string | null
  /** What the processor's `load` found. */
  loaded: unknown
  /** Why `load` can't read what this item needs; null when it could. */
  loadError: string | null
}

type Loadable = { workId: number; payload: unknown }

/** Reads the items of many rings in one statement, and what their processor needs in another. */
export function createLoader(db: Db, job: JobDefinition, processor: AnyProcessor) {
  async function fill(items: Map<number, LoadedItem>, loadable: Loadable[]): Promise<void> {
    if (!processor.load || loadable.length === 0) return
    try {
      const loaded = await processor.load(db, loadable)
      for (const [workId, value] of loaded) {
        const item = items.get(workId)
        if (item) item.loaded = value
      }
    } catch (error) {
      if (mayPass(error)) throw error
      // One item can't be read; the others must not suffer for it.
      if (loadable.length > 1) for (const one of loadable) await fill(items, [one])
      else for (const { workId } of loadable) items.get(workId)!.loadError = messageOf(error)
    }
  }

  return createBatcher<RingData, LoadedItem | undefined>({
    async run(rings) {
      const workIds = rings.map((ring) => ring.workId)
      if (job.scope !== 'none') await answerAsks(db, rings)
      // Primary key; switches are asked once for each site. The job is compared here: in the statement it would make the
      // planner walk all of work_job_key.
      const { rows } = await db.execute(
        sql`WITH items AS MATERIALIZED (
              SELECT id, job, generation, state, reason, last_error, attempts, site_id, lane, trigger, payload
              FROM website_worker.work WHERE id = ANY (${sql.param(workIds)}::bigint[])),
            switches AS MATERIALIZED (
              SELECT s.site_id, website_worker.hold_reason(${job.domain}, s.site_id) AS blocked
              FROM (SELECT DISTINCT coalesce(site_id, 0) AS site_id FROM items) s)
            SELECT i.*, s.blocked FROM items i LEFT JOIN switches s ON s.site_id = coalesce(i.site_id, 0)`,
      )
      const items = new Map<number, LoadedItem>()
      const loadable: Loadable[] = []
      for (const row of rows) {
        if (row.job !== job.name) continue
        const item: LoadedItem = {
          workId: Number(row.id),
          generation: row.generation as number,
          state: row.state as string,
          reason: row.reason as string | null,
          lastError: row.last_error as string | null,
          attempts: row.attempts as number,
          siteId: row.site_id as number | null,
          lane: row.lane as string | null,
          trigger: row.trigger as string,
          payload: row.payload,
          blocked: row.blocked as string | null,
          loaded: undefined,
          loadError: null,
        }
        items.set(item.workId, item)
        if (processor.load && item.state === 'owed' && job.schema.safeParse(item.payload).success) loadable.push(item)
      }
      await fill(items, loadable)
      return workIds.map((workId) => items.get(workId))
    },
  })
}
