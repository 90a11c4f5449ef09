import type { Db } from '../db/client.ts'
import { pruneOwnTables } from '../db/queries/prune.ts'
import type { Processor } from './contract.ts'

export interface MaintainDeps {
  db: Db
  payloadsDays: number
}

export const maintainProcessor: Processor<Record<string, never>, MaintainDeps> = {
  async process(_payload, deps, context) {
    const pruned = await pruneOwnTables(deps.db, { payloadsDays: deps.payloadsDays, signal: context.signal })
    if (context.signal.aborted) return { kind: 'retry', error: 'stopped on the way' }
    return { kind: 'done', result: pruned }
  },
}
