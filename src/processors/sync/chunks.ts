import { setTimeout as sleep } from 'node:timers/promises'
import type { Db, Tx } from '../../db/client.ts'
import { countBad, quarantine, quarantineBatch, resolveQuarantine } from '../../db/queries/sync/quarantine.ts'
import { lastStaged, type Kept, type StagedRange } from '../../db/queries/sync/levels.ts'
import { noteApplied, type ApplyCounts, type SyncRun } from '../../db/queries/sync/run.ts'
import { inCatalog } from '../../db/queries/sync/site-lock.ts'
import { AppError } from '../../errors.ts'
import type { StepControl } from './stream.ts'

/** What one transaction did to a range. */
export interface ChunkResult {
  kept: Kept
  /** SKUs of the range that the site sells. */
  sold: number
  /** SKUs of which something was written. */
  written: ReadonlySet<string>
  /** Rows that the shop's own database lets nobody write so. */
  refused: number
  /** Rows that someone else has locked: the range is done once there are none. */
  busy: number
}

/** Staged records of one transaction. */
const chunkSize = 5_000
/** Pauses while rows are locked by others, ms; about ten seconds in all. */
const lockPausesMs = [20, 50, 100, 200, 400, 800, 1_600, 3_200, 3_200]

/**
 * Applies what is staged in ranges, each in a fenced transaction of its own, from where the run was broken off. Doing a
 * range again must change nothing.
 * @throws AppError `unavailable` when rows stay locked: the run goes on later, from that range
 */
export async function applyInChunks(
  db: Db,
  run: SyncRun,
  { signal, progress }: StepControl,
  apply: (tx: Tx, range: StagedRange) => Promise<ChunkResult>,
  pausesMs: readonly number[] = lockPausesMs,
): Promise<ApplyCounts> {
  const total = await lastStaged(db, run)
  const sums = { updated: 0, unchanged: 0, stale: 0, unknown: 0 }
  let refusedRows = 0
  for (let after = run.appliedThrough; after < total; after += chunkSize) {
    const range = { after, through: Math.min(after + chunkSize, total) }
    const written = new Set<string>()
    for (let tries = 0; ; tries++) {
      const done = await inCatalog(db, run, signal, async (tx) => {
        const result = await apply(tx, range)
        if (result.busy === 0) await noteApplied(tx, run, range.through)
        return result
      })
      for (const sku of done.written) written.add(sku)
      if (done.busy === 0) {
        const { kept, sold, refused } = done
        sums.updated += written.size
        sums.unchanged += Math.max(0, sold - written.size - refused)
        refusedRows += refused
        sums.unknown += kept.skus - sold
        sums.stale += kept.stale
        break
      }
      const pauseMs = pausesMs[tries]
      if (pauseMs === undefined) {
        throw new AppError('unavailable', `${done.busy} rows of site ${run.siteId} stay locked by other transactions`)
      }
      await sleep(pauseMs, undefined, { signal })
    }
    progress(range.through, total)
  }
  return { ...sums, ...(refusedRows > 0 && { refused: refusedRows }), ...(await writeRejects(db, run, signal)) }
}

/** Writes down what a run could not take, and lets go of what is well again. */
async function writeRejects(db: Db, run: SyncRun, signal: AbortSignal): Promise<ApplyCounts> {
  const fenced = <T>(work: (tx: Tx) => Promise<T>): Promise<T> => inCatalog(db, run, signal, work)
  const parts = Math.ceil((await fenced((tx) => countBad(tx, run))) / quarantineBatch)
  let quarantined = 0
  for (let part = 0; part < parts; part++) quarantined += await fenced((tx) => quarantine(tx, run, part, parts))
  return { quarantined, resolved: await fenced((tx) => resolveQuarantine(tx, run)) }
}
