import { defineSyncJob } from './sync-job.ts'

/** Brings a site's products in line with its ERP. */
export const syncProducts = defineSyncJob('sync-products')
