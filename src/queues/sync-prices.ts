import { defineSyncJob } from './sync-job.ts'

/** Brings a site's prices in line with its ERP. */
export const syncPrices = defineSyncJob('sync-prices')
