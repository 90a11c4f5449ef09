const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** What a scenario measured, by name. */
export type Facts = Record<string, number | string | boolean>

/** Fails the scenario with a sentence when what must be isn't. */
export function demand(isSo: boolean, sentence: string): asserts isSo {
  if (!isSo) throw new Error(sentence)
}

/** Asks until the answer is true, and says how many ms that took; `state` describes what is seen when it never is. */
export async function until(
  what: string,
  timeoutMs: number,
  check: () => boolean | Promise<boolean>,
  state: () => unknown = () => '',
): Promise<number> {
  const began = performance.now()
  while (!(await check())) {
    if (performance.now() - began > timeoutMs) {
      throw new Error(`not within ${timeoutMs} ms: ${what} ${JSON.stringify(await state())}`)
    }
    await pause(20)
  }
  return Math.round(performance.now() - began)
}

/** The value below which a share of them lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0)
}
