import type { Checkpoint } from '../../db/queries/sync/checkpoints.ts'
import type { RunOptions, RunPlan } from '../../db/queries/sync/runs.ts'
import type { SyncType } from '../../erp.ts'
import { spreadSeconds } from '../../queues/spread.ts'
import type { SyncPayload } from '../../queues/sync-job.ts'

const hour = 3_600
/** Full runs begin in these hours of the site's night, spread over the first two of them. */
const night = { from: 2 * hour, until: 5 * hour, spread: 2 * hour }
const hourMs = 3_600_000

/** Seconds since midnight on the clocks of a timezone; of UTC where there is no such zone. */
function secondsOfDay(nowMs: number, timezone: string | null): number {
  const format = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' } as const
  let formatter: Intl.DateTimeFormat
  try {
    formatter = new Intl.DateTimeFormat('en', { ...format, timeZone: timezone || 'UTC' })
  } catch {
    formatter = new Intl.DateTimeFormat('en', { ...format, timeZone: 'UTC' })
  }
  const parts = new Map(formatter.formatToParts(nowMs).map(({ type, value }) => [type, Number(value)]))
  const part = (name: Intl.DateTimeFormatPartTypes) => parts.get(name) ?? 0
  return part('hour') * hour + part('minute') * 60 + part('second')
}

/** Whether the nightly full run of a stream is due; one that was missed is, after a day and a half, at any time. */
export function isFullDue(
  site: { siteId: number; timezone: string | null },
  type: SyncType,
  { fullAtMs, nowMs }: Pick<Checkpoint, 'fullAtMs' | 'nowMs'>,
): boolean {
  if (fullAtMs === null) return true
  const ageMs = nowMs - fullAtMs
  if (ageMs < 12 * hourMs) return false
  if (ageMs > 36 * hourMs) return true
  const seconds = secondsOfDay(nowMs, site.timezone)
  return seconds >= night.from + spreadSeconds(`full ${type}`, site.siteId, night.spread) && seconds < night.until
}

/** What a run that begins is to read, from what was asked for and from what was read before. */
export function planRun(
  payload: SyncPayload,
  options: RunOptions,
  checkpoint: Checkpoint | undefined,
  source: string,
  isFullDue: boolean,
): RunPlan {
  const isFirst = (checkpoint?.fullAtMs ?? null) === null
  const known = checkpoint?.source === source ? checkpoint.checkpoint : null
  if (options.skus) return { mode: 'targeted', since: null, isFirst, options }
  if (payload.audit || payload.mode === 'full' || known === null) return { mode: 'full', since: null, isFirst, options }
  if (payload.mode === undefined && isFullDue) return { mode: 'full', since: null, isFirst, options }
  return { mode: 'incremental', since: known, isFirst, options }
}
