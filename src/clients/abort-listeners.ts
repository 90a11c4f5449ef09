const listening = new WeakMap<AbortSignal, Set<() => void>>()

/**
 * Calls `listener` when `signal` aborts; returns how to stop listening. Any number of requests share one event listener:
 * adding and removing one per request costs a third of a request, and Node warns from the eleventh.
 */
export function onceAborted(signal: AbortSignal, listener: () => void): () => void {
  let listeners = listening.get(signal)
  if (!listeners) {
    const mine = new Set<() => void>()
    signal.addEventListener('abort', () => mine.forEach((each) => each()), { once: true })
    listening.set(signal, (listeners = mine))
  }
  const set = listeners.add(listener)
  return () => set.delete(listener)
}
