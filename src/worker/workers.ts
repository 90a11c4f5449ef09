import { setMaxListeners } from 'node:events'
import { Worker, type Job } from 'bullmq'
import { atMost } from '../deadline.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import type { QueueBackend, RingData } from '../work/backend.ts'
import type { Bell } from '../work/bell.ts'
import { createLanePuller } from '../work/lanes.ts'
import type { AnyProcessor } from './processor.ts'
import { createRunner, type RunnerDeps } from './run.ts'

export interface Workers {
  /** Takes no more rings, waits up to `graceMs` for runs, then gives the rest back to the queue. */
  close(graceMs: number): Promise<void>
}

/** Starts one BullMQ worker per job. */
export function startWorkers(
  deps: Omit<RunnerDeps, 'signal' | 'writeSignal' | 'pullLane'> & { backend: QueueBackend; bell: Bell },
  jobs: readonly { definition: JobDefinition; processor: AnyProcessor }[],
): Workers {
  const closing = new AbortController()
  const runs = new AbortController()
  const writes = new AbortController()
  // Every run may listen for the end of its process; Node takes more than ten listeners for a leak.
  setMaxListeners(0, closing.signal, runs.signal, writes.signal)
  const lanes = createLanePuller(deps)
  const runnerDeps = { ...deps, pullLane: lanes.pull, writeSignal: writes.signal }
  const workers = jobs.map(({ definition, processor }) => {
    const { signal } = definition.resumable ? closing : runs
    const run = createRunner({ ...runnerDeps, signal }, definition, processor)
    const { concurrency, limiter } = definition.worker
    const options = {
      ...deps.backend.workerOptions,
      concurrency,
      ...(limiter && { limiter: { max: limiter.max, duration: limiter.durationMs } }),
      // A crash is noticed within seconds; crashes are counted in the row, so the queue never gives up by itself.
      lockDuration: 10_000,
      stalledInterval: 5_000,
      maxStalledCount: 1_000_000,
    }
    const handle = (ring: Job<RingData>) => run(ring)
    const worker = deps.backend.factory
      ? new Worker(definition.name, handle, options as never, deps.backend.factory as never)
      : new Worker(definition.name, handle, options)
    worker.on('error', (error: Error) => deps.log.debug({ job: definition.name, err: error.message }, 'worker error'))
    return worker
  })

  // Without its database a worker of the Postgres queue would ask again without a pause.
  deps.backend.onLost(() => {
    for (const worker of workers) void worker.pause(true).catch(() => {})
  })
  deps.backend.onReady(() => {
    for (const worker of workers) if (!worker.closing) worker.resume()
  })

  return {
    async close(graceMs) {
      closing.abort(new Error('the process is shutting down'))
      const closed = Promise.allSettled(workers.map((worker) => worker.close())).then(lanes.settled)
      if ((await atMost(graceMs, closed)) !== 'late') return
      runs.abort(new Error('the process is shutting down'))
      if ((await atMost(2_000, closed)) !== 'late') return
      writes.abort(new Error('the process is shutting down'))
      // A worker whose queue is away never ends closing; its connections are closed after it, which is enough.
      await atMost(1_000, closed)
    },
  }
}
