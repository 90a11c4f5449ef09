import { defineSyncJob } from './sync-job.ts'

/** Brings a site's stock in line with its ERP. */
export const syncInventory = defineSyncJob('sync-inventory')
