import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import { atMost } from '../deadline.ts'
import { messageOf } from '../errors.ts'
import type { QueueBackend } from './backend.ts'
import { unmarkRung, type Ring } from './transitions.ts'

/** Hands work items to the queue. */
export interface Bell {
  /** True while a ring can be expected to arrive: rows may then be inserted as already rung. */
  ready(): boolean
  /** Rings after a commit, without anyone waiting; what can't be rung goes back to the dispatcher. */
  ring(rings: readonly Ring[]): void
  /** Rings and waits for the queue's answer. @throws what the queue throws */
  ringNow(job: string, rings: readonly Ring[]): Promise<void>
  /** Resolves when nothing is being rung. */
  settled(): Promise<void>
}

/** How much of a finished ring stays to be looked at. */
const keep = { removeOnComplete: { count: 1_000 }, removeOnFail: { age: 7 * 24 * 3600 } }

/** Rings in one command. */
const chunk = 500

/** What a ring is called in Bull Board. */
export function ringName(ring: Pick<Ring, 'job' | 'label' | 'attempts'>): string {
  return `${ring.label || ring.job}${ring.attempts > 0 ? ` · attempt ${ring.attempts + 1}` : ''}`
}

/** The ring's id in the queue: a new one for every generation, since adding over an old one does nothing. */
export const ringId = (ring: { workId: number; generation: number }) => `${ring.workId}-${ring.generation}`

/** Rings within a few milliseconds of each other travel together. `deadlineMs`: when an answer counts as lost. Default: 2000. */
export function createBell(
  deps: { db: Db; backend: QueueBackend; log: Logger },
  options: { deadlineMs?: number } = {},
): Bell {
  const deadlineMs = options.deadlineMs ?? 2_000
  let waiting = new Map<string, Ring[]>()
  let timer: NodeJS.Immediate | undefined
  const underWay = new Set<Promise<void>>()

  async function ringNow(job: string, rings: readonly Ring[]) {
    const queue = deps.backend.queue(job)
    for (let from = 0; from < rings.length; from += chunk) {
      const jobs = rings.slice(from, from + chunk).map((ring) => ({
        name: ringName(ring),
        data: { workId: ring.workId, generation: ring.generation },
        opts: { jobId: ringId(ring), attempts: 1, delay: ring.delayMs, ...keep },
      }))
      if ((await atMost(deadlineMs, queue.addBulk(jobs))) === 'late') throw new Error('the queue did not answer')
    }
  }

  async function ringOrGiveBack(job: string, rings: Ring[]) {
    try {
      if (!deps.backend.ready()) throw new Error('the queue is not reachable')
      await ringNow(job, rings)
    } catch (error) {
      deps.log.warn({ job, rings: rings.length, err: messageOf(error) }, 'could not ring; the dispatcher will')
      await unmarkRung(deps.db, rings).catch((cause) =>
        deps.log.warn({ job, err: messageOf(cause) }, 'could not give rings back'),
      )
    }
  }

  function flush() {
    timer = undefined
    const byJob = waiting
    waiting = new Map()
    for (const [job, rings] of byJob) {
      const ringing = ringOrGiveBack(job, rings).finally(() => underWay.delete(ringing))
      underWay.add(ringing)
    }
  }

  return {
    ready: deps.backend.ready,
    ring(rings) {
      for (const ring of rings) {
        const together = waiting.get(ring.job)
        if (together) together.push(ring)
        else waiting.set(ring.job, [ring])
      }
      timer ??= setImmediate(flush)
    },
    ringNow,
    async settled() {
      if (timer) {
        clearImmediate(timer)
        flush()
      }
      while (underWay.size > 0) await Promise.all(underWay)
    },
  }
}
