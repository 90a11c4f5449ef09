import { priceStream } from './sync/prices.ts'
import { syncStream } from './sync/engine.ts'

/** Reads a site's prices from its ERP. */
export const syncPricesProcessor = syncStream(priceStream)
