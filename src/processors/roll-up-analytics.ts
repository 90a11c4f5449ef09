import { transact, type Db } from '../db/client.ts'
import { discoverRollups } from '../db/queries/rollups/discover.ts'
import { purgeSite } from '../db/queries/rollups/purge.ts'
import { beginRange, countLeft, endRanges, type Range } from '../db/queries/rollups/ranges.ts'
import { lockSite, putOffSite } from '../db/queries/rollups/site.ts'
import { putOffVisitors, recomputeVisitors } from '../db/queries/rollups/visitors.ts'
import type { RollUpAnalyticsPayload } from '../queues/roll-up-analytics.ts'
import type { Outcome, Processor } from './contract.ts'
import { rollUpStep, type Step } from './rollups/step.ts'

export interface RollupSettings {
  db: Db
  /** How soon a site is rolled up again after it was, ms; later where that takes long. Default: 5000. */
  freshMs?: number
  /** How soon visitors of periods are computed again, ms; later where that takes long. Default: 300000. */
  visitorsMs?: number
  /** How long a run that nobody asked a span of goes on before what is newest has its turn again, ms. Default: 10000. */
  budgetMs?: number
}

export interface RollUpAnalyticsDeps {
  rollups: RollupSettings
}

/** What a roll-up did, as its job shows it. */
interface Totals {
  /** Hours that were computed again. */
  hours: number
  /** Rows that were written or removed. */
  changed: number
  /** Rows that came too late to count. */
  late: number
}

const stopped = { kind: 'retry', error: 'stopped on the way; it goes on from where it was' } as const
const gone = { kind: 'done', result: { skipped: 'the site is gone' } } as const

/** Days in one transaction: more while that is quick, so that a long quiet past takes few of them. */
const firstDays = 2
const mostDays = 31
const quickMs = 300
const slowMs = 2_000

/** A site takes at most this share of the time of who rolls it up. */
const share = { rollUp: 10, visitors: 30 }

/** Brings a site's analytics up to date, what is newest first, each step in a transaction of its own. */
export const rollUpAnalyticsProcessor: Processor<RollUpAnalyticsPayload, RollUpAnalyticsDeps, undefined, true> = {
  async process({ siteId, from, to }, { rollups }, { workId, trigger, signal, progress, log }) {
    const { db, freshMs = 5_000, visitorsMs = 300_000, budgetMs = 10_000 } = rollups
    const began = performance.now()
    const range = await begin(db, siteId, workId, { from, to })
    if (range === 'gone') return (await purgeSite(db, siteId, signal)) ? gone : stopped

    const totals: Totals = { hours: 0, changed: 0, late: 0 }
    let visitorsDue = false
    let days = firstDays
    for (let through: string | null = range?.to ?? 'infinity'; ;) {
      if (signal.aborted) return stopped
      const stepBegan = performance.now()
      const step: Step | null = await rollUpStep(db, siteId, { through, from: range?.from ?? '-infinity', days })
      if (!step) return (await purgeSite(db, siteId, signal)) ? gone : stopped
      if (step.unknownZone !== null && totals.hours === 0 && step.hours > 0)
        log.warn(
          { timezone: step.unknownZone },
          'the site names a timezone that there is not; its days are those of UTC',
        )
      for (const name of ['hours', 'changed', 'late'] as const) totals[name] += step[name]
      visitorsDue = step.visitorsDue
      through = step.through
      if (through === null || step.isClean) break
      if (range) await showProgress(db, siteId, range, progress)
      else if (performance.now() - began > budgetMs) break
      const tookMs = performance.now() - stepBegan
      if (tookMs < quickMs) days = Math.min(mostDays, days * 2)
      else if (tookMs > slowMs) days = Math.max(1, Math.floor(days / 2))
    }
    if (totals.late > 0) log.warn({ rows: totals.late }, 'rows came for hours that are sealed; they are not counted')
    const tookMs = performance.now() - began
    if ((visitorsDue || trigger !== 'discovery') && !(await rollUpVisitors(db, siteId, visitorsMs, signal)))
      return stopped
    await transact(db, (tx) => putOffSite(tx, siteId, Math.max(freshMs, share.rollUp * tookMs)))
    return { kind: 'done', result: totals, ...(range && { record: true as const }) } satisfies Outcome<true>
  },

  discover: discoverRollups,

  async settle(tx, runs) {
    const ended = runs.filter(({ outcome, record }) => record && outcome === 'done')
    if (ended.length > 0)
      await endRanges(
        tx,
        ended.map((run) => run.workId),
      )
  },
}

/** The range, marked; undefined where none is asked for. */
async function begin(
  db: Db,
  siteId: number,
  workId: number,
  asked: Pick<RollUpAnalyticsPayload, 'from' | 'to'>,
): Promise<Range | undefined | 'gone'> {
  if (asked.from === undefined && asked.to === undefined) return undefined
  return transact(db, async (tx) => {
    const site = await lockSite(tx, siteId)
    return site ? beginRange(tx, workId, site, asked) : 'gone'
  })
}

async function showProgress(db: Db, siteId: number, range: Range, progress: (value: unknown) => void) {
  const left = await transact(db, (tx) => countLeft(tx, siteId, range))
  const total = Math.max(range.hours, left)
  const done = total - left
  progress({ total, done, percent: total === 0 ? 100 : Math.floor((done * 100) / total) })
}

/** Visitors of periods, as far back as visits changed. False: told to stop. */
async function rollUpVisitors(db: Db, siteId: number, visitorsMs: number, signal: AbortSignal): Promise<boolean> {
  const began = performance.now()
  for (let isMore = true; isMore;) {
    if (signal.aborted) return false
    isMore = await transact(db, async (tx) => {
      const site = await lockSite(tx, siteId)
      return site ? recomputeVisitors(tx, site) : false
    })
  }
  const tookMs = performance.now() - began
  await transact(db, (tx) => putOffVisitors(tx, siteId, Math.max(visitorsMs, share.visitors * tookMs)))
  return true
}
