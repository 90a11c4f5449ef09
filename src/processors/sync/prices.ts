import { auditPrices } from '../../db/queries/sync/audit-prices.ts'
import { noteProductChanges } from '../../db/queries/sync/changes.ts'
import { inHalves } from '../../db/queries/sync/halves.ts'
import { dropTwins } from '../../db/queries/sync/levels.ts'
import { judgePrices } from '../../db/queries/sync/prices-judgement.ts'
import { keepPrices, lockPrices, writePrices } from '../../db/queries/sync/prices.ts'
import { priceRows } from '../../db/queries/sync/staged-rows.ts'
import { applyInChunks } from './chunks.ts'
import type { SyncStream } from './stream.ts'

/** Prices by SKU: the only writer of prices once a product is there, where the ERP has this stream. */
export const priceStream: SyncStream = {
  type: 'price',

  rows: priceRows,

  async judge(db, run) {
    await dropTwins(db, run, 'price')
    return judgePrices(db, run)
  },

  async apply(db, run, control) {
    await dropTwins(db, run, 'price')
    return applyInChunks(db, run, control, async (tx, range) => {
      const kept = await keepPrices(tx, run, range)
      const locked = await lockPrices(tx, run, range)
      const rows = [
        ...locked.productIds.map((id) => ({ productIds: [id], variantIds: [] })),
        ...locked.variantIds.map((id) => ({ productIds: [], variantIds: [id] })),
      ]
      const written = new Set<string>()
      const refused = await inHalves(tx, rows, async (inner, some) => {
        const { skus, changes } = await writePrices(inner, run, {
          productIds: some.flatMap(({ productIds }) => productIds),
          variantIds: some.flatMap(({ variantIds }) => variantIds),
        })
        await noteProductChanges(inner, run, changes)
        for (const sku of skus) written.add(sku)
      })
      return { kept, sold: locked.sold, written, refused: refused.length, busy: locked.busy }
    })
  },

  async audit(db, run) {
    await dropTwins(db, run, 'price')
    return auditPrices(db, run)
  },
}
