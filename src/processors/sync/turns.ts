import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import type { ErpTurn, ErpTurns } from '../../clients/erp/turns.ts'
import type { Db } from '../../db/client.ts'
import { leavePlace, takePlace } from '../../db/queries/erp-origins.ts'
import { createLines } from './lines.ts'

export interface ErpTurnsOptions {
  db: Db
  /** How long a call waits for its turn, ms. Default: 10000. */
  patienceMs?: number
}

/** How long a place is looked for again while others have all of them, ms: so long at least, and twice as long at most. */
const shortestPollMs = 30
/** When a run that found no turn asks again. */
const busyMs = 2_000
/** What a call may take beyond its own deadline. */
const graceMs = 5_000

/**
 * Turns at ERPs, kept in Postgres: they hold over all processes, and outlive the queue. In a process the calls to an origin
 * stand in line, so that only the first of them keeps asking.
 */
export function createErpTurns({ db, patienceMs = 10_000 }: ErpTurnsOptions): ErpTurns {
  const lines = createLines()

  return {
    async enter(origin, limits, { callMs, signal }): Promise<ErpTurn> {
      const until = performance.now() + patienceMs
      const busy = (): ErpTurn => ({ kind: 'wait', why: 'busy', ms: busyMs * (1 + Math.random()) })
      const step = await lines.enter(origin, patienceMs, signal)
      if (!step) return signal.aborted ? { kind: 'wait', why: 'stopped', ms: 0 } : busy()
      try {
        for (;;) {
          if (signal.aborted) return { kind: 'wait', why: 'stopped', ms: 0 }
          const token = randomUUID()
          const found = await takePlace(db, origin, limits, { token, leaseMs: callMs + graceMs })
          if (found.kind === 'taken') {
            const held = { place: found.place, token }
            return { kind: 'go', leave: (outcome) => leavePlace(db, origin, held, outcome).catch(() => {}) }
          }
          const { why, ms } = found
          const leftMs = until - performance.now()
          if (why === 'open') return { kind: 'wait', why, ms }
          if (ms > leftMs || leftMs <= 0) return why === 'asked' ? { kind: 'wait', why, ms } : busy()
          const pollMs = why === 'busy' ? shortestPollMs * (1 + Math.random()) : ms + 1
          await wait(pollMs, undefined, { signal }).catch(() => {})
        }
      } finally {
        step()
      }
    },
  }
}
