import { auditStock } from '../../db/queries/sync/audit-stock.ts'
import { noteProductChanges } from '../../db/queries/sync/changes.ts'
import { dropTwins, keepLevels, stageLevels } from '../../db/queries/sync/levels.ts'
import { stageRejects } from '../../db/queries/sync/levels-rejected.ts'
import { judgeStock } from '../../db/queries/sync/stock-judgement.ts'
import { lockStock, writeStock } from '../../db/queries/sync/stock.ts'
import { applyInChunks } from './chunks.ts'
import type { SyncStream } from './stream.ts'

/** Stock by SKU: every variant of a SKU shows what the ERP has, less what it will hear of in orders. */
export const inventoryStream: SyncStream = {
  type: 'inventory',

  async stage(tx, run, { levels, rejects }, first) {
    await stageLevels(tx, run, levels, first)
    return stageRejects(tx, run, rejects, first + levels.length)
  },

  async judge(db, run) {
    await dropTwins(db, run, 'level')
    return judgeStock(db, run)
  },

  async apply(db, run, control) {
    await dropTwins(db, run, 'level')
    return applyInChunks(db, run, control, async (tx, range) => {
      const kept = await keepLevels(tx, run, range)
      const { locked, busy, sold } = await lockStock(tx, run, range)
      const written = await writeStock(tx, run, locked)
      const products = new Set(written.map(({ productId }) => productId))
      await noteProductChanges(
        tx,
        run,
        [...products].map((productId) => ({ productId, changed: ['inventory'] })),
      )
      return { kept, sold, written: new Set(written.map(({ sku }) => sku)), busy }
    })
  },

  async audit(db, run) {
    await dropTwins(db, run, 'level')
    return auditStock(db, run)
  },
}
