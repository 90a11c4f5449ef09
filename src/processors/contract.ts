import type { Logger } from 'pino'
import type { Db, Tx } from '../db/client.ts'

/** What a run came to. The worker turns it into the work item's next state; a thrown error counts as `retry`. */
export type Outcome<Record = never> = (
  | { kind: 'done'; result?: unknown }
  /**
   * Owed again: at `at` where given, else by the job's schedule; after the last attempt it becomes `failed`. `lane`: where
   * it will wait for its turn then. Default: nowhere.
   */
  | { kind: 'retry'; error: string; at?: Date; lane?: string }
  /** Its remote can't take it now: it waits for its turn in a lane, in Postgres; costs no attempt. */
  | { kind: 'parked'; lane: string }
  /** Its time has not come: owed again in so many ms; costs no attempt. */
  | { kind: 'postponed'; inMs: number }
  /** Can't run until someone or something releases it; costs no attempt. `error`: more about it, for a person. */
  | { kind: 'held'; reason: string; error?: string }
  /** Will never work as it stands. */
  | { kind: 'failed'; error: string }
) & {
  /** What `settle` writes beside the transition. */
  record?: Record
}

/** What a run may use beside its payload. */
export interface RunContext<Loaded = undefined> {
  workId: number
  /** 1 for the first attempt. */
  attempt: number
  /** Who asked for this run: `event`, `schedule`, `retry`, `replay`, `request`, `discovery`. */
  trigger: string
  /** The lane that rang it; null when it didn't have to wait for its turn. */
  lane: string | null
  /** The row `load` found for this item, if the processor has a `load`. */
  loaded: Loaded
  log: Logger
  /** Aborted when the process shuts down or the lease is lost. */
  signal: AbortSignal
  /** Shown in the job's status and in Bull Board; written at most once a second. */
  progress(value: unknown): void
}

/** A run that ended, as `settle` sees it. */
export interface SettledRun<Payload, Record> {
  workId: number
  siteId: number | null
  payload: Payload
  attempt: number
  trigger: string
  /** Final word: a `retry` without attempts left is `failed` here. */
  outcome: 'done' | 'retry' | 'parked' | 'postponed' | 'held' | 'failed'
  /** When it runs again, for `retry` and `postponed`. */
  nextAt: Date | null
  record: Record
}

/** How a job is done. */
export interface Processor<Payload, Deps, Loaded = undefined, Record = never> {
  /** Reads what many runs need in one statement; keyed by work item. */
  load?(db: Db, items: readonly { workId: number; payload: Payload }[]): Promise<Map<number, Loaded>>
  process(payload: Payload, deps: Deps, context: RunContext<Loaded | undefined>): Promise<Outcome<Record>>
  /** Writes the runs' results, many at once, in the transaction that moves their work items. */
  settle?(tx: Tx, runs: readonly SettledRun<Payload, Record>[], log: Logger): Promise<void>
  /** Which remote each item goes to, for a job whose items wait for their turn in lanes; keyed by work item. */
  lanes?(
    db: Db,
    items: readonly { workId: number; payload: Payload }[],
  ): Promise<Map<number, { lane: string; isManaged: boolean }>>
  /** Turns rows the main app just wrote into work items: in bounded statements; returns how many. */
  discover?(db: Db, deps: Deps): Promise<number>
}
