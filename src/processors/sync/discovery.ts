import type { Db } from '../../db/client.ts'
import { owePending } from '../../db/queries/sync/pending.ts'
import { sweepRuns } from '../../db/queries/sync/runs.ts'
import { keepSyncSchedules, type SyncSchedule } from '../../db/queries/sync/sync-schedules.ts'
import type { SyncType } from '../../erp.ts'
import { syncJobs } from '../../queues/sync-job.ts'
import type { SyncDeps } from './deps.ts'

const minute = 60

/** How often each stream is read where a site says nothing. */
const schedules: Record<SyncType, Omit<SyncSchedule, 'job'>> = {
  product: { field: 'products', everySeconds: 60 * minute, isFirst: true },
  inventory: { field: 'inventory', everySeconds: 5 * minute, isFirst: false },
  price: { field: 'prices', everySeconds: 15 * minute, isFirst: false },
}

const keepEveryMs = 10_000
/** Who marks a product waits for it; of the other streams only what a failed run left is found this way. */
const lookEveryMs: Record<SyncType, number> = { product: 2_000, inventory: 10_000, price: 10_000 }
const budgetMs = 300

/**
 * Owes what is waited for at sites. Every now and then it also brings schedules in line with the sites' settings, and
 * removes what runs left behind.
 */
export function discoverSyncs(type: SyncType): (db: Db, deps: Pick<SyncDeps, 'sync'>) => Promise<number> {
  const job = syncJobs[type]
  let keptAt = -Infinity
  let lookedAt = -Infinity
  return async function discover(db, { sync: { hasDefault } }) {
    if (performance.now() - keptAt >= keepEveryMs) {
      keptAt = performance.now()
      await keepSyncSchedules(db, { job, ...schedules[type] }, hasDefault)
    }
    if (type === 'product') await sweepRuns(db, budgetMs)
    if (performance.now() - lookedAt < lookEveryMs[type]) return 0
    lookedAt = performance.now()
    return owePending(db, { job, type }, hasDefault, budgetMs)
  }
}
