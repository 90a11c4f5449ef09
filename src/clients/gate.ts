/** Shares one process's requests among the remotes they go to. */
export interface Gate {
  /**
   * Takes a place for a request to a remote; null when it has to wait its turn elsewhere. `isPatient`: waits longer, as
   * long as the remote answers others. Default: false.
   */
  enter(remote: string, isPatient?: boolean): Promise<Leave | null>
}

/** Gives a place back once the request is over, and tells whether it was answered. */
export type Leave = (answered: boolean) => void

export interface GateOptions {
  /** Requests at a time, over all remotes. */
  capacity: number
  /** How long a request waits for others to the same remote to end, ms. Default: 250. */
  patienceMs?: number
}

interface Remote {
  inFlight: number
  /** Places it may use where they are free: more once it answered as many at a time. */
  earned: number
  answers: number
  waiting: Set<() => void>
  /** Nothing has ended for as long as someone waited. */
  isStuck: boolean
}

/** What a remote may use before it has answered. */
const firstPlaces = 8

/** How often a patient request waits, while others to its remote are answered. */
const patiences = 4

/** Remotes that are remembered for what they earned. */
const mostRemembered = 10_000

/**
 * A remote may use as many places as it leaves free (the dynamic threshold of Choudhury and Hahne, 1998): alone it gets
 * half of them, and the more remotes hang the fewer each of them holds. That alone would let seven that begin to hang one
 * after the other take all of a hundred places, so each begins with a few and earns more by answers while it uses them,
 * twice as many in the time of one answer. What finds no place waits a moment, since a remote that answers soon has room
 * again; once that was in vain the next ones don't wait.
 */
export function createGate({ capacity, patienceMs = 250 }: GateOptions): Gate {
  const remotes = new Map<string, Remote>()
  const waited = new Set<Remote>()
  let inFlight = 0

  const hasRoom = (remote: Remote) =>
    remote.inFlight === 0 ? inFlight < capacity : remote.inFlight < Math.min(remote.earned, capacity - inFlight)
  const isIdle = (remote: Remote) => remote.inFlight === 0 && remote.waiting.size === 0

  function remoteOf(name: string): Remote {
    const known = remotes.get(name)
    if (known) return known
    if (remotes.size >= mostRemembered) {
      for (const [each, remote] of remotes) {
        if (!isIdle(remote)) continue
        remotes.delete(each)
        break
      }
    }
    const remote = { inFlight: 0, earned: firstPlaces, answers: 0, waiting: new Set<() => void>(), isStuck: false }
    remotes.set(name, remote)
    return remote
  }

  function rest(name: string, remote: Remote): void {
    if (remote.waiting.size === 0) waited.delete(remote)
    if (!isIdle(remote)) return
    remote.isStuck = false
    if (remote.earned === firstPlaces) remotes.delete(name)
  }

  function judge(remote: Remote, answered: boolean): void {
    remote.isStuck = false
    if (answered) remote.answers++
    if (!answered) remote.earned = Math.max(firstPlaces, Math.floor(remote.earned / 2))
    else if (2 * remote.inFlight >= remote.earned)
      remote.earned = Math.min(Math.max(capacity, firstPlaces), remote.earned + 1)
  }

  function take(name: string, remote: Remote): Leave {
    remote.inFlight++
    inFlight++
    let over = false
    return (answered) => {
      if (over) return
      over = true
      judge(remote, answered)
      remote.inFlight--
      inFlight--
      rest(name, remote)
      admit(remote)
      // A place that its own remote can't use may be what another waits for.
      for (const other of waited) admit(other)
    }
  }

  function admit(remote: Remote): void {
    for (const next of remote.waiting) {
      if (!hasRoom(remote)) return
      remote.waiting.delete(next)
      next()
    }
    waited.delete(remote)
  }

  return {
    enter(name, isPatient = false) {
      const remote = remoteOf(name)
      if (remote.waiting.size === 0 && hasRoom(remote)) return Promise.resolve(take(name, remote))
      if (remote.isStuck) return Promise.resolve(null)
      return new Promise((resolve) => {
        let times = 1
        let seen = remote.answers
        let timer = setTimeout(giveUpOrWait, patienceMs)
        function giveUpOrWait() {
          const goesOn = remote.answers > seen
          if (goesOn && isPatient && times < patiences) {
            times++
            seen = remote.answers
            timer = setTimeout(giveUpOrWait, patienceMs)
            return
          }
          remote.waiting.delete(admitted)
          if (!goesOn) remote.isStuck = true
          rest(name, remote)
          resolve(null)
        }
        const admitted = () => {
          clearTimeout(timer)
          resolve(take(name, remote))
        }
        remote.waiting.add(admitted)
        waited.add(remote)
      })
    },
  }
}
