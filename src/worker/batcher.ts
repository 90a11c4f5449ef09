/** Collects calls that arrive while the one before is under way, and makes them one. */
export function createBatcher<In, Out>(options: {
  /** Answers in the order of its items, or rejects for all of them. */
  run(items: In[]): Promise<Out[]>
  /** Default: 500. */
  maxSize?: number
  /** Batches at once: the next one is the larger the longer it waits. Default: 1. */
  concurrency?: number
}) {
  const maxSize = options.maxSize ?? 500
  const concurrency = options.concurrency ?? 1
  let waiting: { item: In; resolve(out: Out): void; reject(error: unknown): void }[] = []
  let running = 0
  let scheduled = false

  async function runOne() {
    running++
    const batch = waiting.splice(0, maxSize)
    try {
      const results = await options.run(batch.map((entry) => entry.item))
      batch.forEach((entry, index) => entry.resolve(results[index] as Out))
    } catch (error) {
      for (const entry of batch) entry.reject(error)
    } finally {
      running--
      next()
    }
  }

  function next() {
    if (scheduled || waiting.length === 0 || running >= concurrency) return
    scheduled = true
    // One turn of the event loop lets everything that just arrived travel together.
    setImmediate(() => {
      scheduled = false
      if (waiting.length > 0 && running < concurrency) void runOne()
    })
  }

  return (item: In): Promise<Out> =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      next()
    })
}
