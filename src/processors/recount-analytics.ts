import { sql } from 'drizzle-orm'
import { transact, type Db } from '../db/client.ts'
import { classifyNew } from '../db/queries/rollups/classify.ts'
import { recountDay, recountHour, type Drift } from '../db/queries/rollups/recount-day.ts'
import {
  dirtyBucket,
  drawSample,
  isSettled,
  listRolledUp,
  type Bucket,
  type RecountedSite,
} from '../db/queries/rollups/recount-sample.ts'
import type { Processor } from './contract.ts'
import type { RollUpAnalyticsDeps } from './roll-up-analytics.ts'
import { judge } from './rollups/step.ts'

export interface RecountAnalyticsDeps extends RollUpAnalyticsDeps {
  /** How many days and hours of each site are drawn. Default: 3 and 6. */
  recounted?: { days: number; hours: number }
}

const few = { days: 3, hours: 6 }
/** Page views of a day that is counted in one go. */
const mostViews = 500_000
const mostSites = 1_000
/** How long all of it may take. */
const mostMs = 10 * 60_000
/** Differences that the result names. */
const mostShown = 20

/** What a recount came to, as its job shows it. */
export interface RecountResult {
  sites: number
  /** Days and hours that were counted again. */
  buckets: number
  /** Those that differed. */
  drifted: number
  /** What differed in some of them. */
  drift: ({ siteId: number } & Drift)[]
}

/** Nothing is written while it counts, and what it reads is of one moment. Undefined: the roll-up has yet to come to it. */
function recount(db: Db, site: RecountedSite, bucket: Bucket): Promise<Drift[] | undefined> {
  return transact(db, async (tx) => {
    await tx.execute(sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY`)
    await tx.execute(sql`SELECT set_config('work_mem', '32MB', true), set_config('jit', 'off', true)`)
    if (!(await isSettled(tx, site, bucket))) return undefined
    const { siteId, zone } = site
    return 'day' in bucket ? recountDay(tx, siteId, zone, bucket.day) : recountHour(tx, siteId, zone, bucket.hour)
  })
}

/** Finds what a roll-up has missed, should it ever: a bucket of every site is as good a witness as any other. */
export const recountAnalyticsProcessor: Processor<Record<string, never>, RecountAnalyticsDeps> = {
  async process(_payload, { rollups: { db }, recounted = few }, { log, signal, progress }) {
    const until = performance.now() + mostMs
    const sites = await listRolledUp(db, mostSites)
    const result: RecountResult = { sites: 0, buckets: 0, drifted: 0, drift: [] }
    for (const site of sites) {
      if (performance.now() > until) break
      const { days, hours } = await drawSample(db, site, { ...recounted, mostViews })
      const wrong: Bucket[] = []
      // What a bot is, is forgotten when no one has asked for long.
      await transact(db, (tx) => classifyNew(db, tx, site, days, judge))
      for (const bucket of [...days.map((day) => ({ day })), ...hours.map((hour) => ({ hour }))]) {
        if (signal.aborted) break
        const found = await recount(db, site, bucket)
        if (!found) continue
        result.buckets++
        if (found.length === 0) continue
        result.drifted++
        for (const drift of found) {
          log.error({ site: site.siteId, ...drift }, 'analytics differ from a plain recount; they are computed again')
          if (result.drift.length < mostShown) result.drift.push({ siteId: site.siteId, ...drift })
        }
        wrong.push(bucket)
      }
      // Not before: what waits to be computed is not counted.
      for (const bucket of wrong) await dirtyBucket(db, site, bucket)
      if (signal.aborted) return { kind: 'retry', error: 'stopped on the way' }
      result.sites++
      progress({ total: sites.length, done: result.sites, percent: Math.floor((result.sites * 100) / sites.length) })
    }
    return { kind: 'done', result }
  },
}
