import { AppError } from '../errors.ts'

/** Waits before each attempt, ms, and how far each may stray: 0.2 is ±20 %. */
export interface RetrySchedule {
  waitsMs: readonly number[]
  /** Default: 0. */
  jitter?: number
}

const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const longestWaitMs = 30 * 86_400_000
const mostAttempts = 100

/** Reads `0s,5s,5m,30m,2h,1d` as milliseconds; throws `misconfigured`, naming the part that is wrong. */
export function parseRetrySchedule(text: string): number[] {
  const parts = text.split(',')
  if (parts.length > mostAttempts) {
    throw new AppError('misconfigured', `retry schedule: ${parts.length} waits, at most ${mostAttempts} are possible`)
  }
  return parts.map((part) => {
    const match = /^(\d+(?:\.\d+)?)([smhd])$/.exec(part.trim())
    const waitMs = Math.round(Number(match?.[1]) * (unitMs[match?.[2] ?? ''] ?? Number.NaN))
    if (Number.isNaN(waitMs)) {
      throw new AppError('misconfigured', `retry schedule: "${part.trim()}" is not a wait like 0s, 5m, 2h or 1d`)
    }
    if (waitMs > longestWaitMs) {
      throw new AppError('misconfigured', `retry schedule: "${part.trim()}" is longer than 30d`)
    }
    return waitMs
  })
}

/** The wait before the attempt after `attemptsDone`, with jitter; null when none is left. `random` is in [0, 1). */
export function nextWaitMs(retry: RetrySchedule, attemptsDone: number, random: () => number): number | null {
  const waitMs = retry.waitsMs[attemptsDone]
  if (waitMs === undefined) return null
  return Math.round(waitMs * (1 + (retry.jitter ?? 0) * (2 * random() - 1)))
}
