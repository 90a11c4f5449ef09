/** A line of things to do, some together and a few at once. */
export interface Lane<T> {
  add(things: readonly T[]): void
}

/**
 * Does what is added as soon as there is room, up to `size` together and `atOnce` at a time; what arrives in the same
 * turn of the event loop goes together. `run` must not throw.
 */
export function createLane<T>(options: {
  atOnce: number
  size: number
  run(group: readonly T[]): Promise<void>
}): Lane<T> {
  const { atOnce, size, run } = options
  let waiting: T[] = []
  let underWay = 0
  let planned = false

  function flush(): void {
    planned = false
    while (waiting.length > 0 && underWay < atOnce) {
      const group = waiting.slice(0, size)
      waiting = waiting.slice(size)
      underWay++
      void run(group).finally(() => {
        underWay--
        flush()
      })
    }
  }

  return {
    add(things) {
      // Not spread: there may be too many for the stack.
      for (const thing of things) waiting.push(thing)
      if (planned || underWay >= atOnce || things.length === 0) return
      planned = true
      setImmediate(flush)
    },
  }
}
