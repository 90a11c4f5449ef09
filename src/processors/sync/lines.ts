import { onceAborted } from '../../clients/abort-listeners.ts'

/** Lets those who want the same thing in one after the other, in the order they came. */
export interface Lines {
  /** Waits until it is one's turn; null when that took too long, or the signal came. Call the returned function to let the next one in. */
  enter(name: string, patienceMs: number, signal: AbortSignal): Promise<(() => void) | null>
}

/** Lines of this process, by name. */
export function createLines(): Lines {
  const waiting = new Map<string, Set<() => void>>()

  function next(name: string): void {
    const line = waiting.get(name)
    const [first] = line ?? []
    if (first) {
      line?.delete(first)
      first()
    } else waiting.delete(name)
  }
  const once = (name: string) => {
    let isOver = false
    return () => {
      if (!isOver) next(name)
      isOver = true
    }
  }

  return {
    enter(name, patienceMs, signal) {
      if (signal.aborted) return Promise.resolve(null)
      const line = waiting.get(name)
      if (!line) {
        waiting.set(name, new Set())
        return Promise.resolve(once(name))
      }
      return new Promise((resolve) => {
        const settle = (step: (() => void) | null) => {
          clearTimeout(timer)
          deaf()
          resolve(step)
        }
        const giveUp = () => {
          line.delete(admitted)
          settle(null)
        }
        const admitted = () => settle(once(name))
        const timer = setTimeout(giveUp, patienceMs)
        const deaf = onceAborted(signal, giveUp)
        line.add(admitted)
      })
    },
  }
}
