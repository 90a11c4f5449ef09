import type { ErpConnector } from '../../clients/erp/connector.ts'
import { transact, type Db } from '../../db/client.ts'
import { fence, type SyncRun } from '../../db/queries/sync/run.ts'
import { notePage, type RunRow } from '../../db/queries/sync/runs.ts'
import { keepPage, unpackPage } from '../../db/queries/sync/staging.ts'
import type { SyncStream } from './stream.ts'

export interface Fetching {
  db: Db
  stream: SyncStream
  connector: ErpConnector
  run: SyncRun
  signal: AbortSignal
  /** Hears how each request ended. */
  called(outcome: string): void
  /** Hears how many rows were fetched. */
  progress(fetched: number): void
}

/** How fetching ended; `pages`: how many came. `expired`: the ERP no longer knows where it was. */
export type Fetched =
  | { kind: 'fetched' }
  | { kind: 'stopped' }
  | { kind: 'expired' }
  | { kind: 'unusable'; error: string }
  | { kind: 'unavailable'; error: string; retryAfterMs: number | null; isBreakerOpen: boolean; pages: number }

/** Where a run is: the ERP's cursor and, where it asks for SKUs, how many of them it is done with. */
interface Position {
  skusDone: number
  cursor: string | null
}

function readPosition({ cursor, options }: RunRow): Position {
  if (!options.skus || cursor === null) return { skusDone: 0, cursor }
  const colon = cursor.indexOf(':')
  return { skusDone: Number(cursor.slice(0, colon)), cursor: cursor.slice(colon + 1) || null }
}

const writePosition = ({ options }: RunRow, { skusDone, cursor }: Position) =>
  options.skus ? `${skusDone}:${cursor ?? ''}` : cursor

/**
 * Reads the pages that a run still lacks into its staging. A page is kept in the transaction that moves the run on, so that
 * none is asked for twice but the one under way when the process ends; it becomes records while the next one is asked for.
 */
export async function fetchPages(fetching: Fetching, row: RunRow): Promise<Fetched> {
  const { db, run } = fetching
  const unpack = () => {
    const done = transact(db, async (tx) => {
      await fence(tx, run)
      await unpackPage(tx, run)
    })
    // Whoever waits for it hears of it.
    done.catch(() => {})
    return done
  }
  // What an earlier attempt may have left.
  let unpacked = unpack()
  try {
    return await readPages(fetching, row, {
      beforeKept: () => unpacked,
      afterKept() {
        unpacked = unpack()
      },
    })
  } finally {
    await unpacked
  }
}

interface Unpacking {
  beforeKept(): Promise<void>
  afterKept(): void
}

async function readPages(fetching: Fetching, row: RunRow, unpacking: Unpacking): Promise<Fetched> {
  const { db, stream, connector, run, signal } = fetching
  const { skus } = row.options
  let pages = 0
  while (row.phase === 'fetching') {
    if (signal.aborted) return { kind: 'stopped' }
    const at = readPosition(row)
    const batch = skus?.slice(at.skusDone, at.skusDone + connector.mostSkus)
    const page = await connector.page({
      type: stream.type,
      siteId: run.siteId,
      runId: run.runId,
      signal,
      ...(row.since !== null && { since: row.since }),
      ...(at.cursor !== null && { cursor: at.cursor }),
      ...(batch && { skus: batch }),
    })
    if (signal.aborted) return { kind: 'stopped' }
    fetching.called(page.kind)
    if (page.kind === 'unavailable') return { ...page, pages }
    if (page.kind !== 'page') return page

    const { records, nextCursor, checkpoint } = page
    const skusDone = at.skusDone + (nextCursor === null ? (batch?.length ?? 0) : 0)
    const isLast = nextCursor === null && skusDone >= (skus?.length ?? 0)
    const phase = isLast ? 'applying' : 'fetching'
    const cursor = writePosition(row, { skusDone, cursor: nextCursor })
    const rejected = records.rejects.length
    const rows = stream.rows(records)
    await unpacking.beforeKept()
    const staged = await transact(db, async (tx) => {
      await fence(tx, run)
      const staged = (await keepPage(tx, run, rows, row.staged + 1)) - 1
      await notePage(tx, run, { cursor, phase, staged, checkpoint, rejected })
      return staged
    })
    unpacking.afterKept()
    Object.assign(row, {
      cursor,
      phase,
      staged,
      checkpoint: row.checkpoint ?? checkpoint,
      rejected: row.rejected + rejected,
    })
    pages++
    fetching.progress(staged)
  }
  return { kind: 'fetched' }
}
