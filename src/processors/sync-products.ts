import { productStream } from './sync/products.ts'
import { syncStream } from './sync/engine.ts'

/** Reads a site's products from its ERP. */
export const syncProductsProcessor = syncStream(productStream)
