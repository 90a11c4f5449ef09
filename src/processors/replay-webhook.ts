import { setTimeout as wait } from 'node:timers/promises'
import type { Db } from '../db/client.ts'
import { pgErrorOf } from '../db/queries/pg-error.ts'
import {
  beginReplay,
  countReplayable,
  endReplays,
  findReplay,
  outstandingBefore,
  stepReplay,
  stillOutstanding,
  type ReplayProgress,
  type ReplayStep,
  type ReplayStop,
} from '../db/queries/replay.ts'
import type { ReplayWebhookPayload } from '../queues/replay-webhook.ts'
import type { Outcome, Processor } from './contract.ts'

export interface ReplayWebhookDeps {
  db: Db
}

/** What a job's progress shows. */
interface ShownProgress {
  total: number
  replayed: number
  percent: number
}

/** Deliveries owed in one transaction. */
const pageSize = 250
/** Deliveries that may wait for their first attempt, so that live events find the queue nearly empty. */
const mostOutstanding = 500
const pauseMs = 200

const stopped = { kind: 'retry', error: 'stopped on the way; it goes on from where it was' } as const

/**
 * Owes deliveries again, a page at a time, as fast as they are sent. How far it came is in its row, in the same
 * transaction as the page: a run that is killed is taken up there.
 */
export const replayWebhookProcessor: Processor<ReplayWebhookPayload, ReplayWebhookDeps, undefined, true> = {
  async process(payload, { db }, { workId, signal, progress }) {
    const before = await findReplay(db, workId)
    if (!before) {
      const count = await countReplayable(db, payload, signal)
      if (!count) return stopped
      await beginReplay(db, workId, count)
    }
    let outstanding = before ? await outstandingBefore(db, payload.webhookId, before.position) : []
    for (;;) {
      if (outstanding.length + pageSize > mostOutstanding) {
        await wait(pauseMs, undefined, { signal }).catch(() => {})
        if (signal.aborted) return stopped
        outstanding = await stillOutstanding(db, outstanding)
        continue
      }
      if (signal.aborted) return stopped
      const step = await stepOnce(db, workId, payload)
      if ('kind' in step) return endOf(step)
      outstanding = [...outstanding, ...step.owed]
      progress(shown(step.progress))
      if (step.progress.position >= step.progress.lastId) {
        // Counted again, since bodies may have gone meanwhile.
        const left = await countReplayable(db, payload, signal)
        if (!left) return stopped
        const { total, replayed } = step.progress
        return { kind: 'done', result: { total, replayed, skipped: left.bodiless }, record: true }
      }
    }
  },

  async settle(tx, runs) {
    await endReplays(
      tx,
      runs.map((run) => run.workId),
    )
  },
}

/** Someone else may make an item for a delivery of the page at the same moment: the next look finds it. */
async function stepOnce(db: Db, workId: number, payload: ReplayWebhookPayload): Promise<ReplayStep | ReplayStop> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await stepReplay(db, workId, payload, pageSize)
    } catch (error) {
      if (pgErrorOf(error)?.code !== '23505' || attempt === 3) throw error
    }
  }
}

function endOf(stop: ReplayStop): Outcome<true> {
  switch (stop.kind) {
    case 'ended':
      return { kind: 'retry', error: 'it was cancelled, or another run has it' }
    case 'gone':
      return { kind: 'failed', error: 'the webhook was deleted' }
    case 'blocked':
      return { kind: 'held', reason: stop.reason }
    case 'off': {
      const why = stop.disabledReason === null ? 'switched off' : `disabled: ${stop.disabledReason}`
      return {
        kind: 'failed',
        error: `the webhook was ${why}. Switch it on, then retry this job: it goes on from here`,
      }
    }
  }
}

const shown = ({ total, replayed }: ReplayProgress): ShownProgress => ({
  total,
  replayed,
  percent: total === 0 ? 100 : Math.min(100, Math.floor((replayed * 100) / total)),
})
