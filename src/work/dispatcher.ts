import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import { atMost } from '../deadline.ts'
import { messageOf } from '../errors.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import { oweAskedAgain } from './asked-again.ts'
import type { QueueBackend } from './backend.ts'
import type { Bell } from './bell.ts'
import { beginEpoch, keepEpoch } from './epoch.ts'
import { ringLanes } from './lanes.ts'
import { lead, stepDown } from './leader.ts'
import { createLostRingSweep } from './lost-rings.ts'
import { createMovedSweep } from './moved.ts'
import { createDueRinger, type LanesOf } from './ring-due.ts'
import { owedBySchedule } from './schedules.ts'
import { createReleaseSweep, reclaimExpiredLeases, releaseForms } from './transitions.ts'

/** After this many runs that ended with their process an item is given up. */
export const maxCrashes = 20

export interface DispatcherDeps {
  db: Db
  backend: QueueBackend
  bell: Bell
  jobs: readonly JobDefinition[]
  /** Finds rows the main app wrote and makes them work items, by job. */
  discover: ReadonlyMap<string, (db: Db) => Promise<number>>
  /** Tells which lane items would wait in, for the jobs that have lanes. */
  lanesOf?: ReadonlyMap<string, LanesOf>
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
 * schedules and fresh rows into work items, and rings what is due. `tickMs` Default: 1000. `stepMs`: how long the tick
 * waits for one of its steps. Default: 10000.
 */
export function createDispatcher(deps: DispatcherDeps, options: { tickMs?: number; stepMs?: number } = {}): Dispatcher {
  const { tickMs = 1_000, stepMs = 10_000 } = options
  const holder = randomUUID()
  const sweepLostRings = createLostRingSweep(deps)
  const releaseUnblocked = createReleaseSweep(deps)
  const sweepMoved = createMovedSweep({ ...deps, lanesOf: deps.lanesOf ?? new Map() })
  const ringDue = createDueRinger(deps)
  const jobNames = deps.jobs.map((job) => job.name)
  const ofForms = deps.jobs.filter((job) => job.subject?.table === 'website_form_submissions').map((job) => job.name)
  let ticks = 0
  let ledAt = -Infinity
  let releasing = false
  let stopped = false
  let warned = false
  let timer: NodeJS.Timeout | undefined
  let underWay: Promise<unknown> = Promise.resolve()

  const pending = new Set<string>()

  /** One step's failure must not keep the others from happening, nor may one that never ends. */
  async function step(name: string, work: () => Promise<number>) {
    if (pending.has(name)) return
    pending.add(name)
    try {
      const ended = work().finally(() => pending.delete(name))
      const count = await atMost(stepMs, ended)
      if (count === 'late') throw new Error(`it did not end within ${stepMs} ms`)
      if (count > 0) deps.log.debug({ step: name, count }, 'dispatched')
    } catch (error) {
      deps.log.warn({ step: name, err: messageOf(error) }, 'a dispatcher step failed; the next tick tries again')
    }
  }

  async function releaseHolds(): Promise<number> {
    const count = (await releaseUnblocked()) + (ofForms.length === 0 ? 0 : await releaseForms(deps.db, ofForms))
    releasing = count > 0
    return count
  }

  async function checkQueue(): Promise<number> {
    if ((await keepEpoch(deps.db, deps.backend)) === 'kept') return 0
    const { rearmed, first } = await beginEpoch(deps.db, deps.backend, jobNames, stillLeading)
    if (!first) deps.log.warn({ rearmed }, 'the queue was wiped, swapped or restored: everything owed is rung again')
    return rearmed
  }

  /** Asks again after `tickMs`, so that a long tick doesn't lose its place, nor go on once it has. */
  async function stillLeading(): Promise<boolean> {
    if (performance.now() - ledAt < tickMs) return true
    if (!(await lead(deps.db, holder))) return false
    ledAt = performance.now()
    return true
  }

  function* stepsOf(slow: boolean): Generator<[string, () => Promise<number>]> {
    if (deps.backend.ready()) yield ['epoch', checkQueue]
    yield ['expired leases', () => reclaimExpiredLeases(deps.db, maxCrashes)]
    yield ['asked again', () => oweAskedAgain(deps.db)]
    // Whoever switches a domain on again waits for all that was held: as long as there is more, every tick.
    if (slow || releasing) yield ['released holds', releaseHolds]
    yield ['schedules', () => owedBySchedule(deps.db, deps.log)]
    for (const [job, discover] of deps.discover) yield [`discovery of ${job}`, () => discover(deps.db)]
    if (slow) yield ['moved', sweepMoved]
    yield ['rings', () => ringDue(deps.jobs, stillLeading)]
    yield ['lanes', () => ringLanes(deps)]
    if (slow && deps.backend.ready()) yield ['lost rings', sweepLostRings]
  }

  async function tick(): Promise<boolean> {
    ledAt = -Infinity
    if (!(await stillLeading())) {
      if (deps.backend.kind === 'postgres' && !warned) {
        warned = true
        deps.log.warn('another process works here too: the queue in Postgres is made for one. Set REDIS_URL for more')
      }
      return false
    }
    for (const [name, work] of stepsOf(ticks++ % 5 === 0)) {
      if (!(await stillLeading())) return false
      await step(name, work)
    }
    return true
  }

  function schedule(delayMs: number) {
    if (stopped) return
    timer = setTimeout(() => {
      const began = Date.now()
      underWay = tick()
        .catch((error: unknown) => deps.log.warn({ err: messageOf(error) }, 'a dispatcher tick failed'))
        .finally(() => schedule(Math.max(0, tickMs - (Date.now() - began))))
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
