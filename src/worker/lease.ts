import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import { messageOf } from '../errors.ts'
import { renewLease } from '../work/transitions.ts'

/**
 * Keeps a run's lease and aborts `lost` before it could lapse unrenewed, so that no second run begins beside it: time is
 * counted on the monotonic clock from before the last renewal that worked was asked for.
 * @returns ends the keeping.
 */
export function keepLease(
  deps: { db: Db; log: Logger },
  lease: { workId: number; token: string; leaseMs: number; takenAt: number },
  lost: AbortController,
): () => void {
  const { workId, token, leaseMs } = lease
  let heldSince = lease.takenAt
  let renewing = false

  async function renew() {
    const askedAt = performance.now()
    renewing = true
    try {
      if (await renewLease(deps.db, workId, token, leaseMs)) heldSince = askedAt
      else lost.abort(new Error('the lease was lost'))
    } catch (error) {
      deps.log.warn({ work: workId, err: messageOf(error) }, 'could not renew a lease')
    } finally {
      renewing = false
    }
  }

  const timer = setInterval(() => {
    const age = performance.now() - heldSince
    if (age > leaseMs * 0.8) lost.abort(new Error('the lease could not be renewed'))
    else if (age > leaseMs / 3 && !renewing) void renew()
  }, leaseMs / 10)
  return () => clearInterval(timer)
}
