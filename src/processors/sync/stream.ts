import type { Db } from '../../db/client.ts'
import type { ApplyCounts, Judgement, SyncRun } from '../../db/queries/sync/run.ts'
import type { StagedRow } from '../../db/queries/sync/staging.ts'
import type { ErpRecords, SyncType } from '../../erp.ts'

/** What may stop a long step, and hears how far it has come. */
export interface StepControl {
  signal: AbortSignal
  progress(done: number, total: number): void
}

/** How one stream of an ERP becomes rows of the shop; fetching, leases and logs are the run's. */
export interface SyncStream {
  type: SyncType
  /** What of a page is staged. */
  rows(records: ErpRecords): StagedRow[]
  /** Looks at all that is staged, before anything is written: what would it do? */
  judge(db: Db, run: SyncRun): Promise<Judgement>
  /** Writes it in sets, each in a fenced transaction that notes how far it came, so that another process can go on. */
  apply(db: Db, run: SyncRun, control: StepControl): Promise<ApplyCounts>
  /** How many rows differ from what is staged: after an apply, what is left; without one, the drift. */
  audit(db: Db, run: SyncRun): Promise<{ compared: number; differing: number; erpHash: string; shopHash: string }>
}
