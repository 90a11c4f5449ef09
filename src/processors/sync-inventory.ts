import { inventoryStream } from './sync/inventory.ts'
import { syncStream } from './sync/engine.ts'

/** Reads a site's inventory from its ERP. */
export const syncInventoryProcessor = syncStream(inventoryStream)
