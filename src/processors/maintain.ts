import type { Db } from '../db/client.ts'
import { prune } from '../db/queries/prune.ts'
import { disableFailing, failingForMs, noteReactivated } from '../db/queries/webhook-health.ts'
import type { Processor } from './contract.ts'

export interface MaintainDeps {
  db: Db
  payloadsDays: number
  /** Default: the ledger is kept. */
  deliveriesDays?: number | undefined
}

export const maintainProcessor: Processor<Record<string, never>, MaintainDeps> = {
  async process(_payload, { db, payloadsDays, deliveriesDays }, { log, signal }) {
    const reactivated = await noteReactivated(db, 'all')
    for (const webhook of reactivated) log.info(webhook, 'webhook is on again: its failures before count no more')
    // Where deliveries run, their ends are judged; here, what no delivery comes for any more.
    const disabled = await disableFailing(db, 'all', failingForMs)
    for (const webhook of disabled) log.warn(webhook, 'webhook disabled: it did nothing but fail')
    const pruned = await prune(db, { payloadsDays, deliveriesDays, signal })
    if (signal.aborted) return { kind: 'retry', error: 'stopped on the way' }
    return { kind: 'done', result: { reactivated: reactivated.length, disabled: disabled.length, ...pruned } }
  },
}
