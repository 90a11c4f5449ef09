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
      // Primary key.
      const { rows } = await db.execute(
        sql`SELECT w.id, w.generation, w.state, w.reason, w.last_error, w.attempts, w.site_id, w.trigger, w.payload,
                   website_worker.hold_reason(${job.domain}, w.site_id) AS blocked
            FROM website_worker.work w WHERE w.id = ANY (${sql.param(workIds)}::bigint[]) AND w.job = ${job.name}`,
      )
      const items = new Map<number, LoadedItem>()
      const loadable: Loadable[] = []
      for (const row of rows) {
        const item: LoadedItem = {
          workId: Number(row.id),
          generation: row.generation as number,
          state: row.state as string,
          reason: row.reason as string | null,
          lastError: row.last_error as string | null,
          attempts: row.attempts as number,
          siteId: row.site_id as number | null,
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
