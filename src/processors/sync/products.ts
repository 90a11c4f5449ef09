import { setTimeout as sleep } from 'node:timers/promises'
import { transact, type Db, type Tx } from '../../db/client.ts'
import { auditProducts } from '../../db/queries/sync/audit-products.ts'
import { judgeProducts } from '../../db/queries/sync/products-judgement.ts'
import { dataFaultOf, isConflict } from '../../db/queries/sync/data-fault.ts'
import { lastStaged, type StagedRange } from '../../db/queries/sync/levels.ts'
import { isShopEmpty, refuse } from '../../db/queries/sync/matching.ts'
import { announce, applyProductRange, linkNothing, linkProducts } from '../../db/queries/sync/products-apply.ts'
import { planInserts, type PlannedInsert } from '../../db/queries/sync/products-insert.ts'
import { prepareForSets, readTraversal, type Traversal } from '../../db/queries/sync/products-staged.ts'
import { countBad, quarantine, quarantineBatch, resolveQuarantine } from '../../db/queries/sync/quarantine.ts'
import { fence, noteApplied, type ApplyCounts, type SyncRun } from '../../db/queries/sync/run.ts'
import { inCatalog } from '../../db/queries/sync/site-lock.ts'
import { productRows } from '../../db/queries/sync/staged-rows.ts'
import { sweepProducts, sweepSize } from '../../db/queries/sync/sweep.ts'
import type { StepControl, SyncStream } from './stream.ts'

/** How long a transaction that the shop is in the way of waits before it is tried again, ms. */
const conflictWaitsMs = [50, 100, 200, 400, 800, 1_600]

/**
 * Products of the ERP become products of the shop, with their variants and categories.
 * `rangeSize`: staged records that one transaction writes. Default: 2500.
 */
export const createProductStream = (rangeSize = 2_500): SyncStream => ({
  type: 'product',
  rows: productRows,
  judge: judgeProducts,
  apply: (db, run, control) => applyProducts(db, run, control, rangeSize),
  audit: auditProducts,
})

/** The stream of products as it runs. */
export const productStream: SyncStream = createProductStream()

type Step = (work: (tx: Tx) => Promise<ApplyCounts>) => Promise<ApplyCounts>

/** Ranges of a first import that are written at a time: nothing is there yet that two of them could both want. */
const firstRanges = 2

async function applyProducts(
  db: Db,
  run: SyncRun,
  { signal, progress }: StepControl,
  rangeSize: number,
): Promise<ApplyCounts> {
  const counts: Record<string, number> = {}
  const count = (more: ApplyCounts) => {
    for (const [word, value] of Object.entries(more)) counts[word] = (counts[word] ?? 0) + value
  }
  const step: Step = (work) => inFencedSets(db, run, signal, work)
  const last = await lastStaged(db, run)
  const view = await readTraversal(db, run)
  const isEmpty = await isShopEmpty(db, run)
  count(await step((tx) => (isEmpty ? linkNothing(tx, run) : linkProducts(tx, run, view))))
  const atATime = run.isFirst ? firstRanges : 1
  for (let after = run.appliedThrough; after < last;) {
    const ranges: StagedRange[] = []
    const through = Math.min(last, after + atATime * rangeSize)
    for (let from = after; from < through; from += rangeSize)
      ranges.push({ after: from, through: Math.min(last, from + rangeSize) })
    await applyRanges(db, run, view, ranges, signal, count)
    after = through
    progress(through, last)
  }
  if (view.isSpoilt) count({ sweepSkipped: 1 })
  if (view.isComplete && !isEmpty) await sweep(run, view, step, count)
  const parts = Math.ceil((await transact(db, (tx) => countBad(tx, run))) / quarantineBatch)
  for (let part = 0; part < parts; part++) {
    count(await step(async (tx) => ({ quarantined: await quarantine(tx, run, part, parts) })))
  }
  count(await step(async (tx) => ({ resolved: await resolveQuarantine(tx, run) })))
  return counts
}

/** Writes neighbouring ranges, several at the same time, and notes it once all are there. */
async function applyRanges(
  db: Db,
  run: SyncRun,
  view: Traversal,
  ranges: readonly StagedRange[],
  signal: AbortSignal,
  count: (more: ApplyCounts) => void,
): Promise<void> {
  const { after } = ranges[0]!
  const { through } = ranges.at(-1)!
  const plan = await transact(db, async (tx) => {
    await prepareForSets(tx)
    return planInserts(tx, run, { after, through })
  })
  const shared = ranges.length > 1
  const step: Step = (work) => inFencedSets(db, run, signal, work, shared)
  const done = await Promise.allSettled(
    ranges.map((range) => applyOrSplit({ db, run, view, plan, step, noted: !shared }, range)),
  )
  for (const range of done) {
    if (range.status === 'rejected') throw range.reason
    count(range.value)
  }
  if (shared)
    await transact(db, async (tx) => {
      await fence(tx, run)
      await noteApplied(tx, run, through)
    })
}

async function sweep(run: SyncRun, view: Traversal, step: Step, count: (more: ApplyCounts) => void): Promise<void> {
  for (let after = 0; ;) {
    const {
      seen = 0,
      last = 0,
      deactivated = 0,
      refused = 0,
    } = await step(async (tx) => {
      const swept = await sweepProducts(tx, run, view, after)
      await announce(tx, run)
      return swept
    })
    count({ deactivated, ...(refused > 0 && { refused }) })
    if (seen < sweepSize) return
    after = last
  }
}

interface RangeParts {
  db: Db
  run: SyncRun
  view: Traversal
  plan: readonly PlannedInsert[]
  step: Step
  /** Its transaction notes how far the run came. */
  noted: boolean
}

/** Writes a range in one transaction; where the database has something against a record of it, that one is refused. */
async function applyOrSplit(parts: RangeParts, range: StagedRange): Promise<ApplyCounts> {
  const { db, run, view, plan, step, noted } = parts
  const write = () =>
    step(async (tx) => {
      const counts = await applyProductRange(tx, run, view, range, plan)
      if (noted) await noteApplied(tx, run, range.through)
      return counts
    })
  let fault: string | undefined
  try {
    return await write()
  } catch (error) {
    fault = dataFaultOf(error)
    if (fault === undefined) throw error
  }
  const { after, through } = range
  if (through - after === 1) {
    await refuse(db, run, [{ n: through, reason: `the shop's database refuses it: ${fault}` }])
    return write()
  }
  // Halves, so that one bad record among thousands is found in a few steps.
  const middle = after + Math.ceil((through - after) / 2)
  const first = await applyOrSplit(parts, { after, through: middle })
  const second = await applyOrSplit(parts, { after: middle, through })
  const words = new Set([...Object.keys(first), ...Object.keys(second)])
  return Object.fromEntries([...words].map((word) => [word, (first[word] ?? 0) + (second[word] ?? 0)]))
}

/** One transaction that only the run's holder may make, and no other stream at the same time; `shared`: beside its own. */
async function inFencedSets(
  db: Db,
  run: SyncRun,
  signal: AbortSignal,
  work: (tx: Tx) => Promise<ApplyCounts>,
  shared = false,
): Promise<ApplyCounts> {
  for (let tried = 0; ; tried++) {
    try {
      return await inCatalog(
        db,
        run,
        signal,
        async (tx) => {
          await prepareForSets(tx)
          return work(tx)
        },
        { shared },
      )
    } catch (error) {
      const waitMs = conflictWaitsMs[tried]
      if (!isConflict(error) || waitMs === undefined) throw error
      await sleep(waitMs, undefined, { signal })
    }
  }
}
