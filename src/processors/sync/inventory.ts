import { auditStock } from '../../db/queries/sync/audit-stock.ts'
import { noteProductChanges } from '../../db/queries/sync/changes.ts'
import { inHalves } from '../../db/queries/sync/halves.ts'
import { dropTwins, keepLevels } from '../../db/queries/sync/levels.ts'
import { levelRows } from '../../db/queries/sync/staged-rows.ts'
import { judgeStock } from '../../db/queries/sync/stock-judgement.ts'
import { lockStock, writeStock } from '../../db/queries/sync/stock.ts'
import { applyInChunks } from './chunks.ts'
import type { SyncStream } from './stream.ts'

/** Stock by SKU: every variant of a SKU shows what the ERP has, less what it will hear of in orders. */
export const inventoryStream: SyncStream = {
  type: 'inventory',

  rows: levelRows,

  async judge(db, run) {
    await dropTwins(db, run, 'level')
    return judgeStock(db, run)
  },

  async apply(db, run, control) {
    await dropTwins(db, run, 'level')
    return applyInChunks(db, run, control, async (tx, range) => {
      const kept = await keepLevels(tx, run, range)
      const { locked, busy, sold } = await lockStock(tx, run, range)
      const written = new Set<string>()
      const refused = await inHalves(tx, locked, async (inner, ids) => {
        const rows = await writeStock(inner, run, ids)
        const products = new Set(rows.map(({ productId }) => productId))
        const changes = [...products].map((productId) => ({ productId, changed: ['inventory'] }))
        await noteProductChanges(inner, run, changes)
        for (const { sku } of rows) written.add(sku)
      })
      return { kept, sold, written, refused: refused.length, busy }
    })
  },

  async audit(db, run) {
    await dropTwins(db, run, 'level')
    return auditStock(db, run)
  },
}
