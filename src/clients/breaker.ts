/** Notices remotes that only fail, in one process; that the breaker is open is kept in Postgres. */
export interface Breaker {
  /** Notes how a request went; true when it was the last straw. */
  note(remote: string, ok: boolean, durationMs: number): boolean
}

export interface BreakerOptions {
  /** What failures in a row must weigh. Default: 100. */
  breaksAt?: number
  /** How long they must have gone on, ms: a remote that restarts is none of this. Default: 5000. */
  lastsMs?: number
  /** Monotonic, ms. Default: `performance.now`. */
  now?: () => number
}

/** A failure weighs 1, and 3 more for every second that it held a connection. */
const weightOf = (durationMs: number) => 1 + (3 * durationMs) / 1_000

/** Breaks after a hundred quick failures in a row, or half a minute spent waiting in vain, that went on for seconds. */
export function createBreaker(options: BreakerOptions = {}): Breaker {
  const { breaksAt = 100, lastsMs = 5_000, now = () => performance.now() } = options
  const failing = new Map<string, { weight: number; since: number }>()
  return {
    note(remote, ok, durationMs) {
      if (ok) {
        failing.delete(remote)
        return false
      }
      const before = failing.get(remote) ?? { weight: 0, since: now() - durationMs }
      const weight = before.weight + weightOf(durationMs)
      const breaks = weight >= breaksAt && now() - before.since >= lastsMs
      if (breaks) failing.delete(remote)
      else failing.set(remote, { weight, since: before.since })
      return breaks
    },
  }
}
