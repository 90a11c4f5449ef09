import type { Job } from 'bullmq'
import type { Logger } from 'pino'
import type { Db } from '../../db/client.ts'
import { setQueuePaused } from '../../db/queries/queue-pauses.ts'
import { messageOf } from '../../errors.ts'
import type { QueueBackend, RingData } from '../../work/backend.ts'
import { ringId, type Bell } from '../../work/bell.ts'
import { cancel, promote, retry, type Ring } from '../../work/transitions.ts'
import { isRing, readItems, stateWord, type WorkItem } from './items.ts'

/** What an action came to: nothing to add, or why it changed nothing. */
export type Answer = { refused: string; status?: 403 | 404 } | { body: object }

export interface BoardActions {
  retry(job: string, ring: string, user: string): Promise<Answer>
  promote(job: string, ring: string, user: string): Promise<Answer>
  remove(job: string, ring: string, user: string): Promise<Answer>
  retryFailed(job: string, user: string): Promise<Answer>
  promoteDelayed(job: string, user: string): Promise<Answer>
  setPaused(job: string, paused: boolean, user: string): Promise<Answer>
}

const pageSize = 500
const done: Answer = { body: {} }
const gone: Answer = { refused: 'This ring is no longer in the queue.', status: 404 }
const noItem: Answer = { refused: 'Its work item is gone.', status: 404 }

/** What people do in the board, as transitions of work items; a ring whose item moved on is taken out of its list. */
export function createBoardActions(deps: { db: Db; bell: Bell; backend: QueueBackend; log: Logger }): BoardActions {
  const { db, bell, log } = deps

  // The row has moved on already: a ring left behind does nothing when its turn comes.
  const takeOut = (rings: readonly Job<RingData>[]) =>
    Promise.all(
      rings.map((ring) =>
        ring.remove().catch((error) => log.debug({ ring: ring.id, err: messageOf(error) }, 'a ring stayed')),
      ),
    )

  // Awaited, so that the page that is read next shows the new ring; without an answer the dispatcher rings.
  const ringAgain = (job: string, rings: readonly Ring[]) =>
    rings.length === 0
      ? undefined
      : bell
          .ringNow(job, rings)
          .catch((error) => log.warn({ job, err: messageOf(error) }, 'could not ring; the dispatcher will'))

  async function find(job: string, id: string) {
    const ring = await deps.backend.queue(job).getJob(id)
    if (!ring) return undefined
    return { ring, state: await ring.getState(), item: (await readItems(db, [ring])).values().next().value }
  }

  async function rearmed(
    action: string,
    user: string,
    ring: Job<RingData>,
    item: WorkItem,
    rings: Ring[],
  ): Promise<Answer> {
    const now = (await readItems(db, [ring])).get(item.id) ?? item
    if (rings.length === 0) {
      const ended = ['failed', 'cancelled', 'done', 'held'].includes(now.state)
      return {
        refused:
          ended && action === 'retry'
            ? 'The same work is already owed by another item.'
            : `Its work item is ${stateWord(now, new Date())}.`,
      }
    }
    await ringAgain(item.job, rings)
    await takeOut([ring])
    log.info({ user, job: item.job, work: item.id }, `board: ${action}`)
    return done
  }

  /** Walks one list from its head; `settle` returns the rings that no longer belong in it. */
  async function walk(
    job: string,
    list: 'failed' | 'delayed',
    settle: (rings: Job<RingData>[]) => Promise<Job<RingData>[]>,
  ) {
    const queue = deps.backend.queue(job)
    const total = await queue.getJobCountByTypes(list)
    let seen = 0
    let kept = 0
    while (seen < total) {
      const rings = (await queue.getJobs([list], kept, kept + pageSize - 1)).filter((ring) => ring !== undefined)
      if (rings.length === 0) break
      const settled = await settle(rings)
      await takeOut(settled)
      seen += rings.length
      kept += rings.length - settled.length
    }
    return kept
  }

  return {
    async retry(job, id, user) {
      const found = await find(job, id)
      if (!found) return gone
      const { ring, state, item } = found
      if (state !== 'failed' && state !== 'completed')
        return { refused: `Only a finished ring can be retried; this one is ${state}.` }
      if (!item) return noItem
      if (state === 'failed' && item.state === 'done')
        return { refused: 'This run failed, but a later one did the work.' }
      if (item.state === 'owed' && item.nextAt <= new Date()) return { refused: 'Its work item is due already.' }
      const rings = item.state === 'owed' ? await promote(db, [item.id]) : await retry(db, [item.id], 'retry')
      return rearmed('retry', user, ring, item, rings)
    },

    async promote(job, id, user) {
      const found = await find(job, id)
      if (!found) return gone
      const { ring, state, item } = found
      if (state !== 'delayed') return { refused: `Only a delayed ring can be promoted; this one is ${state}.` }
      if (!item) return noItem
      return rearmed('promote', user, ring, item, await promote(db, [item.id]))
    },

    async remove(job, id, user) {
      const found = await find(job, id)
      if (!found) return gone
      const { ring, state, item } = found
      if (state === 'active') return { refused: 'It is running. Cancel it through the API, or wait.' }
      const finished = state === 'completed' || state === 'failed'
      // A ring that was replaced isn't the item's any more: only the list changes.
      const current = item && ringId({ workId: item.id, generation: item.generation }) === ring.id
      const cancelled = finished || !current ? [] : await cancel(db, [item.id], `removed in the board by ${user}`)
      await takeOut([ring])
      log.info({ user, job, ring: ring.id, cancelled: cancelled.length === 1 }, 'board: remove')
      return done
    },

    async retryFailed(job, user) {
      let retried = 0
      const skipped = await walk(job, 'failed', async (rings) => {
        const items = await readItems(db, rings)
        const stateOf = (ring: Job<RingData>) => (isRing(ring.data) ? items.get(ring.data.workId)?.state : undefined)
        const failed = rings.filter((ring) => stateOf(ring) === 'failed')
        const again = await retry(
          db,
          failed.map((ring) => ring.data.workId),
          'retry',
        )
        await ringAgain(job, again)
        retried += again.length
        const moved = new Set(again.map((ring) => ring.workId))
        // What has moved on since is no longer a failure; the list says so too.
        return rings.filter((ring) =>
          stateOf(ring) === 'failed' ? moved.has(ring.data.workId) : stateOf(ring) !== undefined,
        )
      })
      log.info({ user, job, retried, skipped }, 'board: retry all failed')
      return { body: { retried, skipped } }
    },

    async promoteDelayed(job, user) {
      let promoted = 0
      await walk(job, 'delayed', async (rings) => {
        const items = rings.filter((ring) => isRing(ring.data))
        const again = await promote(
          db,
          items.map((ring) => ring.data.workId),
        )
        await ringAgain(job, again)
        promoted += again.length
        return items
      })
      log.info({ user, job, promoted }, 'board: promote all delayed')
      return done
    },

    async setPaused(job, paused, user) {
      await setQueuePaused(db, job, paused)
      const queue = deps.backend.queue(job)
      await (paused ? queue.pause() : queue.resume())
      log.info({ user, job }, paused ? 'board: pause' : 'board: resume')
      return done
    },
  }
}
