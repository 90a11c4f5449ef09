import type { ErpReject } from '../../../erp.ts'
import type { Tx } from '../../client.ts'
import { stageProducts } from './products-stage.ts'
import type { SyncRun } from './run.ts'

/** Keeps the records of a page that can't be taken, from an ordinal on; returns the next. */
export function stageRejects(tx: Tx, run: SyncRun, rejects: readonly ErpReject[], first: number): Promise<number> {
  if (rejects.length === 0) return Promise.resolve(first)
  return stageProducts(tx, run, { products: [], tombstones: [], levels: [], prices: [], rejects: [...rejects] }, first)
}
