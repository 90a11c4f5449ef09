import { setTimeout as wait } from 'node:timers/promises'
import type { Db } from '../db/client.ts'
import { findWorkItem, type WorkItem } from '../db/queries/jobs.ts'
import { AppError } from '../errors.ts'
import type { Terminal } from './terminal.ts'

const askMs = 250

export interface FollowOptions {
  onLook?(item: WorkItem): void
  /** How long no worker may take it up, ms. */
  patienceMs: number
}

/**
 * Waits until a work item has ended.
 * @throws AppError when it is held or failed, was cancelled, or no worker takes it up
 */
export async function follow(db: Db, job: string, workId: number, options: FollowOptions): Promise<WorkItem> {
  let waitsSince = performance.now()
  for (;;) {
    const item = await findWorkItem(db, job, workId)
    if (!item) throw new AppError('not_found', `Job ${workId} is no longer kept`)
    options.onLook?.(item)
    const { state, due, reason, lastError } = item
    if (state === 'done') return item
    if (state === 'failed') throw new AppError('conflict', `Failed: ${lastError ?? reason ?? 'no reason noted'}`)
    if (state === 'cancelled') throw new AppError('conflict', `It was ${reason ?? 'cancelled'}`)
    if (state === 'held') throw new AppError('conflict', `It waits, since it is held: ${reason}. Job ${workId} stays`)
    if (state === 'running' || !due) waitsSince = performance.now()
    if (performance.now() - waitsSince > options.patienceMs) {
      throw new AppError(
        'unavailable',
        `No worker has taken it up: is one running? Job ${workId} stays, and waits for it`,
      )
    }
    await wait(askMs)
  }
}

const width = 30

/** How far a job is. */
export interface ShownProgress {
  total: number
  percent: number
  /** What follows the bar, e.g. `12 sent again`. */
  words: string
}

/**
 * Shows a job's progress: a bar that is drawn over on a terminal, else a line for every tenth. `read` takes it from the
 * job's own; a text is shown as it is, while there is no telling how much there will be.
 */
export function createProgressLine(
  terminal: Terminal,
  read: (progress: Record<string, unknown>) => ShownProgress | string | undefined,
): (item: WorkItem) => void {
  let shown = ''
  return ({ progress }) => {
    const far = read((progress ?? {}) as Record<string, unknown>)
    if (far === undefined) return
    if (typeof far === 'string') return terminal.draw?.(far)
    const { total, percent, words } = far
    const filled = Math.floor((percent * width) / 100)
    const bar = `[${'#'.repeat(filled)}${'-'.repeat(width - filled)}] `
    const line = `${terminal.draw ? bar : ''}${terminal.draw ? percent : Math.floor(percent / 10) * 10} % of ${total}`
    if (line === shown) return
    shown = line
    if (terminal.draw) terminal.draw(`${line}: ${words}`)
    else terminal.print(line)
  }
}

/** The progress of a replay. */
export function readReplay({ total, replayed, percent }: Record<string, unknown>): ShownProgress | undefined {
  if (typeof total !== 'number' || typeof percent !== 'number') return undefined
  return { total, percent, words: `${replayed} sent again` }
}

/** The progress of a sync. */
export function readSync({ phase, fetched, applied, total, percent }: Record<string, unknown>) {
  if (phase === 'fetching') return `${fetched} read from the ERP`
  if (typeof total !== 'number' || typeof percent !== 'number') return undefined
  return { total, percent, words: `${applied} brought in line` }
}
