/** Shares one process's requests among the remotes they go to. */
export interface Gate {
  /** Takes a place for a request to a remote; null when it has to wait its turn elsewhere. Call what comes back once it is over. */
  enter(remote: string): Promise<(() => void) | null>
}

export interface GateOptions {
  /** Requests at a time, over all remotes. */
  capacity: number
  /** How long a request waits for others to the same remote to end, ms. Default: 250. */
  patienceMs?: number
}

interface Remote {
  inFlight: number
  waiting: Set<() => void>
  /** Nothing has ended for as long as someone waited. */
  isStuck: boolean
}

/**
 * A remote may use as many places as it leaves free: alone it gets half of them, and however many remotes hang there is
 * always room for one that doesn't. (The dynamic threshold of Choudhury and Hahne, 1998.) What finds no place waits a
 * moment, since a remote that answers soon has room again; once that was in vain the next ones don't wait.
 */
export function createGate({ capacity, patienceMs = 250 }: GateOptions): Gate {
  const remotes = new Map<string, Remote>()
  let inFlight = 0

  const hasRoom = (remote: Remote) =>
    remote.inFlight === 0 ? inFlight < capacity : remote.inFlight < capacity - inFlight

  function take(name: string, remote: Remote): () => void {
    remote.inFlight++
    inFlight++
    let over = false
    return () => {
      if (over) return
      over = true
      remote.inFlight--
      inFlight--
      remote.isStuck = false
      if (remote.inFlight === 0 && remote.waiting.size === 0) remotes.delete(name)
      admit(remote)
      // A place that its own remote can't use may be what another waits for.
      for (const other of remotes.values()) if (other.waiting.size > 0) admit(other)
    }
  }

  function admit(remote: Remote): void {
    for (const next of remote.waiting) {
      if (!hasRoom(remote)) return
      remote.waiting.delete(next)
      next()
    }
  }

  return {
    enter(name) {
      const remote = remotes.get(name) ?? { inFlight: 0, waiting: new Set(), isStuck: false }
      remotes.set(name, remote)
      if (remote.waiting.size === 0 && hasRoom(remote)) return Promise.resolve(take(name, remote))
      if (remote.isStuck) return Promise.resolve(null)
      return new Promise((resolve) => {
        const timer = setTimeout(() => {
          remote.waiting.delete(admitted)
          remote.isStuck = true
          if (remote.inFlight === 0 && remote.waiting.size === 0) remotes.delete(name)
          resolve(null)
        }, patienceMs)
        const admitted = () => {
          clearTimeout(timer)
          resolve(take(name, remote))
        }
        remote.waiting.add(admitted)
      })
    },
  }
}
