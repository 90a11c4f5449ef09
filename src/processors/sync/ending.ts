import type { Tx } from '../../db/client.ts'
import {
  closeRun,
  failRun,
  refuseRun,
  releaseRun,
  type DoneRun,
  type EndingRun,
  type RefusedRun,
} from '../../db/queries/sync/run-ends.ts'
import type { SyncPayload } from '../../queues/sync-job.ts'
import type { SettledRun } from '../contract.ts'

/** What a run of a sync came to, for the transaction that ends its work item. */
export type SyncRecord =
  | { kind: 'done'; run: DoneRun }
  | { kind: 'failed'; run: EndingRun; error: string; counts: object }
  /** It goes on where it was, if its work item has attempts left. */
  | { kind: 'unfinished'; run: EndingRun; error: string }
  | { kind: 'refused'; run: RefusedRun }

// Postgres text can't hold NUL, and an ERP's words may.
const storable = (words: string) => words.replaceAll('\0', '').slice(0, 2_000)

/** Ends runs together with their work items. */
export async function settleSyncs(tx: Tx, runs: readonly SettledRun<SyncPayload, SyncRecord>[]): Promise<void> {
  for (const { record, outcome } of runs.toSorted((a, b) => a.workId - b.workId)) {
    if (record.kind === 'done') await closeRun(tx, record.run)
    else if (record.kind === 'refused') await refuseRun(tx, { ...record.run, error: storable(record.run.error) })
    else if (record.kind === 'failed') await failRun(tx, record.run, storable(record.error), record.counts)
    else if (outcome === 'failed') await failRun(tx, record.run, storable(record.error), {})
    else await releaseRun(tx, record.run, storable(record.error))
  }
}
