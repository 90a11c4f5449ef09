/** Notices remotes that only fail, in one process; that the breaker is open is kept in Postgres. */
export interface Breaker {
  /** Notes how a request went; true when it was the last straw. */
  note(remote: string, ok: boolean, durationMs: number): boolean
}

/** A failure weighs 1, and 3 more for every second that it held a connection. */
const weightOf = (durationMs: number) => 1 + (3 * durationMs) / 1_000

/**
 * Breaks after a hundred quick failures in a row, or about half a minute spent waiting in vain. `breaksAt` Default: 100.
 */
export function createBreaker(options: { breaksAt?: number } = {}): Breaker {
  const { breaksAt = 100 } = options
  const failing = new Map<string, number>()
  return {
    note(remote, ok, durationMs) {
      const weight = ok ? 0 : (failing.get(remote) ?? 0) + weightOf(durationMs)
      const breaks = weight >= breaksAt
      if (ok || breaks) failing.delete(remote)
      else failing.set(remote, weight)
      return breaks
    },
  }
}
