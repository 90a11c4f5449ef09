import type { Db } from '../db/client.ts'
import type { BackfillScope } from '../db/queries/backfill-submissions.ts'
import { enqueueItem } from '../db/queries/enqueue.ts'
import { findPastRollUp } from '../db/queries/rollups/past.ts'
import { rollUpAnalytics } from '../queues/roll-up-analytics.ts'
import { createProgressLine, follow, type ShownProgress } from './follow.ts'
import type { Terminal } from './terminal.ts'

const beginning = '1970-01-01'

/** Asks for the roll-up of a site's past, or finds the one that is under way. Returns its work item. */
export async function askRollUp(db: Db, { siteId, since }: BackfillScope): Promise<number> {
  const from = since?.toISOString() ?? beginning
  const unfinished = await findPastRollUp(db, siteId, from)
  return unfinished ?? (await enqueueItem(db, rollUpAnalytics.name, { siteId, from }, { rung: false })).workId
}

function readRollUp({ total, done, percent }: Record<string, unknown>): ShownProgress | undefined {
  if (typeof total !== 'number' || typeof percent !== 'number') return undefined
  return { total, percent, words: `${done} hours counted` }
}

/** Shows how far a roll-up is until it has ended; stopping to watch doesn't stop it. */
export async function watchRollUp(db: Db, workId: number, terminal: Terminal, patienceMs: number): Promise<void> {
  const onLook = createProgressLine(terminal, readRollUp)
  try {
    const { result } = await follow(db, rollUpAnalytics.name, workId, { onLook, patienceMs })
    const { skipped } = (result ?? {}) as { skipped?: string }
    terminal.print(skipped === undefined ? 'done: what was written is counted' : `nothing to do: ${skipped}`)
  } finally {
    terminal.endDrawing()
  }
}
