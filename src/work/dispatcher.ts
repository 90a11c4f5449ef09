import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import { messageOf } from '../errors.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import type { QueueBackend } from './backend.ts'
import type { Bell } from './bell.ts'
import { beginEpoch, keepEpoch } from './epoch.ts'
import { lead, stepDown } from './leader.ts'
import { createLostRingSweep } from './lost-rings.ts'
import { ringDue } from './ring-due.ts'
import { owedBySchedule } from './schedules.ts'
import { reclaimExpiredLeases, releaseUnblocked } from './transitions.ts'

/** After this many runs that ended with their process an item is given up. */
export const maxCrashes = 20

export interface DispatcherDeps {
  db: Db
  backend: QueueBackend
  bell: Bell
  jobs: readonly JobDefinition[]
  /** Finds rows the main app wrote and makes them work items, by job. */
  discover: ReadonlyMap<string, (db: Db) => Promise<number>>
  log: Logger
}

export interface Dispatcher {
  start(): void
  /** Ends the tick under way and makes room for another process. */
  stop(): Promise<void>
  /** One tick; false when another process dispatches. */
  tick(): Promise<boolean>
}

/**
 * Once a second, in one process at a time: notices a lost queue, takes back what vanished processes held, turns
 * schedules and fresh rows into work items, and rings what is due. `tickMs` Default: 1000.
 */
export function createDispatcher(deps: DispatcherDeps, options: { tickMs?: number } = {}): Dispatcher {
  const holder = randomUUID()
  const sweepLostRings = createLostRingSweep(deps)
  const jobNames = deps.jobs.map((job) => job.name)
  let ticks = 0
  let stopped = false
  let warned = false
  let timer: NodeJS.Timeout | undefined
  let underWay: Promise<unknown> = Promise.resolve()

  /** One step's failure must not keep the others from happening. */
  async function step(name: string, work: () => Promise<number>) {
    try {
      const count = await work()
      if (count > 0) deps.log.debug({ step: name, count }, 'dispatched')
    } catch (error) {
      deps.log.warn({ step: name, err: messageOf(error) }, 'a dispatcher step failed; the next tick tries again')
    }
  }

  async function checkQueue(): Promise<number> {
    if ((await keepEpoch(deps.db, deps.backend)) === 'kept') return 0
    const { rearmed, first } = await beginEpoch(deps.db, deps.backend, jobNames, () => lead(deps.db, holder))
    if (!first) deps.log.warn({ rearmed }, 'the queue was wiped, swapped or restored: everything owed is rung again')
    return rearmed
  }

  async function tick(): Promise<boolean> {
    if (!(await lead(deps.db, holder))) {
      if (deps.backend.kind === 'postgres' && !warned) {
        warned = true
        deps.log.warn('another process works here too: the queue in Postgres is made for one. Set REDIS_URL for more')
      }
      return false
    }
    const slow = ticks++ % 5 === 0
    if (deps.backend.ready()) await step('epoch', checkQueue)
    await step('expired leases', () => reclaimExpiredLeases(deps.db, maxCrashes))
    if (slow) await step('released holds', () => releaseUnblocked(deps.db))
    await step('schedules', () => owedBySchedule(deps.db))
    for (const [job, discover] of deps.discover) await step(`discovery of ${job}`, () => discover(deps.db))
    await step('rings', () => ringDue(deps, deps.jobs, () => lead(deps.db, holder)))
    if (slow && deps.backend.ready()) await step('lost rings', sweepLostRings)
    return true
  }

  function schedule(delayMs: number) {
    if (stopped) return
    timer = setTimeout(() => {
      const began = Date.now()
      underWay = tick()
        .catch((error: unknown) => deps.log.warn({ err: messageOf(error) }, 'a dispatcher tick failed'))
        .finally(() => schedule(Math.max(0, (options.tickMs ?? 1_000) - (Date.now() - began))))
    }, delayMs)
  }

  return {
    start: () => schedule(0),
    async stop() {
      stopped = true
      clearTimeout(timer)
      await underWay
      clearTimeout(timer)
      await stepDown(deps.db, holder).catch(() => {})
    },
    tick,
  }
}
