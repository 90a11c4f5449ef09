/** Whole things per second since `began`, an instant of `performance.now()`. */
export const perSecond = (n: number, began: number) => Math.round((n * 1_000) / (performance.now() - began))

export const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** The value below which a share `p` of them lies; 0 of none. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? 0
}

/** Starts `send` at a steady rate, on time also when it is slow, and waits for all. */
export async function steadily(count: number, everyMs: number, send: (n: number) => Promise<unknown>): Promise<void> {
  const began = Date.now()
  const sends: Promise<unknown>[] = []
  for (let n = 0; n < count; n++) {
    const due = began + n * everyMs
    if (due > Date.now()) await pause(due - Date.now())
    sends.push(send(n))
  }
  await Promise.all(sends)
}
