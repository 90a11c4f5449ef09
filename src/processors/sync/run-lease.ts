import type { Logger } from 'pino'
import type { Db } from '../../db/client.ts'
import { renewRun, runLeaseMs, type RunRow } from '../../db/queries/sync/runs.ts'
import { messageOf } from '../../errors.ts'

/** Keeps a run's lease while `work` goes on, and tells it to stop when another process has taken the run over. */
export async function keepingLease<T>(
  { db, log, signal }: { db: Db; log: Pick<Logger, 'warn'>; signal: AbortSignal },
  run: Pick<RunRow, 'runId' | 'token'>,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const lost = new AbortController()
  let renewing = false
  const timer = setInterval(() => {
    if (renewing) return
    renewing = true
    renewRun(db, run)
      .then((isOurs) => isOurs || lost.abort(new Error('the run was taken over')))
      .catch((error: unknown) => log.warn({ run: run.runId, err: messageOf(error) }, "could not renew a run's lease"))
      .finally(() => (renewing = false))
  }, runLeaseMs / 3)
  try {
    return await work(AbortSignal.any([signal, lost.signal]))
  } finally {
    clearInterval(timer)
  }
}
