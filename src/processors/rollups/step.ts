import { isbot } from 'isbot'
import { transact, type Db, type Tx } from '../../db/client.ts'
import { classifyNew, type Classifiers } from '../../db/queries/rollups/classify.ts'
import { recomputeDays } from '../../db/queries/rollups/days.ts'
import { recomputeEvents } from '../../db/queries/rollups/events.ts'
import { recomputePagesHourly } from '../../db/queries/rollups/pages-hourly.ts'
import {
  firstVisitDay,
  lockSite,
  noteProgress,
  takeEverything,
  type RollupSite,
} from '../../db/queries/rollups/site.ts'
import { always, markRange, takeDirtyHours, type TakeScope } from '../../db/queries/rollups/take.ts'
import { recomputeVisits } from '../../db/queries/rollups/visits.ts'

/** What one transaction did. */
export interface Step {
  /** Hours up to this one are left to look at; null when there was nothing to take. */
  through: string | null
  /** Hours that were computed again. */
  hours: number
  /** Rows that were written or removed. */
  changed: number
  late: number
  isClean: boolean
  visitorsDue: boolean
  /** The timezone of the site that Postgres doesn't know, if so. */
  unknownZone: string | null
}

/** What is a bot, and what the host of a URL. */
export const judge: Classifiers = {
  isBot: (userAgent) => isbot(userAgent),
  hostOf(origin) {
    const host = URL.canParse(origin) ? new URL(origin).hostname : ''
    return host.length > 255 || host.includes('\0') ? '' : host
  },
}

const union = (...lists: readonly string[][]) => [...new Set(lists.flat())].toSorted()

/** Before the first step, marks whatever a change of timezone or a TRUNCATE leaves to be computed again. */
async function markWhatStandsForAll(tx: Tx, site: RollupSite): Promise<void> {
  const kinds = await takeEverything(tx, site.siteId)
  if (site.zoneChanged) await markRange(tx, site, always)
  else if (kinds.length > 0) await markRange(tx, site, always, kinds)
}

/**
 * Takes some hours of a site from the log and computes them again, in one transaction: what is not committed was never
 * taken. The log is read before the rows, so that a row that is missed has left its hour in the log. Null: the site is gone.
 */
export function rollUpStep(db: Db, siteId: number, scope: TakeScope): Promise<Step | null> {
  return transact(db, async (tx) => {
    const site = await lockSite(tx, siteId)
    if (!site) return null
    await markWhatStandsForAll(tx, site)
    const { through, pageviews, events, late } = await takeDirtyHours(tx, site, scope)
    let changed = 0
    // What is moved to other days is moved before the visits are computed again.
    let changedFrom = site.zoneChanged ? await firstVisitDay(tx, site) : null
    if (pageviews.hours.length > 0) {
      await classifyNew(db, tx, site, pageviews.days, judge)
      const visitDays = await recomputeVisits(tx, site, pageviews.hours)
      changedFrom = union(changedFrom === null ? [] : [changedFrom], visitDays)[0] ?? null
      changed += await recomputePagesHourly(tx, site, pageviews)
      const days = union(pageviews.days, visitDays)
      if (days.length > pageviews.days.length) await classifyNew(db, tx, site, days, judge)
      changed += await recomputeDays(tx, site, days)
    }
    if (events.days.length > 0) changed += await recomputeEvents(tx, site, events.days)
    const { isClean, visitorsDue } = await noteProgress(tx, siteId, { changedFrom })
    const hours = union(pageviews.hours, events.hours).length
    return { through, hours, changed, late, isClean, visitorsDue, unknownZone: site.unknownZone }
  })
}
