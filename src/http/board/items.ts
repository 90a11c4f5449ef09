import { inArray } from 'drizzle-orm'
import type { Db } from '../../db/client.ts'
import { work } from '../../db/schema/worker.ts'
import type { RingData } from '../../work/backend.ts'

export type WorkItem = typeof work.$inferSelect

/** True for what the bell puts into a queue; a person may have put something else there. */
export function isRing(data: unknown): data is RingData {
  const ring = data as Partial<RingData> | null | undefined
  return Number.isSafeInteger(ring?.workId) && Number.isSafeInteger(ring?.generation)
}

/** The work items of some rings, by id. */
export async function readItems(db: Db, rings: readonly { data: unknown }[]): Promise<Map<number, WorkItem>> {
  const ids = [...new Set(rings.flatMap(({ data }) => (isRing(data) ? [data.workId] : [])))]
  if (ids.length === 0) return new Map()
  // Primary key.
  const rows = await db.select().from(work).where(inArray(work.id, ids))
  return new Map(rows.map((row) => [row.id, row]))
}

/** BullMQ's word for an item's state, as the API says it. */
export function stateWord(item: WorkItem, now: Date): string {
  if (item.state === 'owed') return item.nextAt > now ? 'delayed' : 'waiting'
  return { running: 'active', done: 'completed', held: 'held', failed: 'failed', cancelled: 'cancelled' }[item.state]
}

/** What a person wants to know of a ring: the work item it stands for. */
export function describe(ring: RingData, item: WorkItem | undefined, now: Date): object {
  if (!item) return { ...ring, workItem: 'gone: finished more than 7 days ago, or of another database' }
  const { attempts, trigger, siteId, payload, nextAt, reason, lastError, progress, result, createdAt, finishedAt } =
    item
  const facts = { reason, lastError, progress, result, createdAt, finishedAt }
  return {
    ...ring,
    ...(ring.generation !== item.generation && { replacedBy: `${item.id}-${item.generation}` }),
    workItem: {
      state: stateWord(item, now),
      siteId,
      payload,
      attempts,
      trigger,
      ...(item.state === 'owed' && { nextAt }),
      ...Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== null)),
      api: `/v1/jobs/${item.job}/${item.id}`,
    },
  }
}
