import { sql } from 'drizzle-orm'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Db } from '../db/client.ts'
import type { QueueBackend } from '../work/backend.ts'

/** The process's metrics: what runs report, and what is read when someone scrapes. */
export interface Metrics {
  contentType: string
  render(): Promise<string>
  runEnded(job: string, outcome: string, seconds: number): void
}

const within = <T>(promise: Promise<T>, ms: number): Promise<T> =>
  Promise.race([promise, new Promise<never>((_, reject) => setTimeout(reject, ms, new Error('too slow')).unref())])

/** Queue and item counts are read at scrape time; a queue or database that is away leaves its gauges out. */
export function createMetrics(deps: { db: Db; backend: QueueBackend; jobs: readonly string[] }): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const registers = [registry]
  const runs = new Counter({
    name: 'website_worker_runs_total',
    help: 'Runs of work items by end',
    labelNames: ['job', 'outcome'],
    registers,
  })
  const seconds = new Histogram({
    name: 'website_worker_run_seconds',
    help: 'Time from picking a work item up to its end being written',
    labelNames: ['job'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60],
    registers,
  })
  const items = new Gauge({
    name: 'website_worker_items',
    help: 'Unfinished and failed work items',
    labelNames: ['job', 'state'],
    registers,
  })
  const oldest = new Gauge({
    name: 'website_worker_owed_oldest_seconds',
    help: 'How long the most overdue work item has been due',
    labelNames: ['job'],
    registers,
  })
  const counts = new Gauge({
    name: 'bullmq_job_count',
    help: 'Rings in the queue',
    labelNames: ['queue', 'state'],
    registers,
  })
  const reachable = new Gauge({ name: 'website_worker_queue_reachable', help: '1 while the queue answers', registers })
  const alarms = new Gauge({
    name: 'website_worker_epoch_alarms',
    help: 'Times the queue was found wiped, swapped or restored',
    registers,
  })

  async function readRows() {
    // work_owed_unrung, work_owed_rung, work_running, work_held, work_failed: each state has its partial index.
    const { rows } = await deps.db.execute(
      sql`SELECT job, state, count(*)::int AS count,
                 extract(epoch FROM now() - min(next_at) FILTER (WHERE state = 'owed'))::float8 AS overdue
          FROM website_worker.work WHERE state IN ('owed', 'running', 'held', 'failed') GROUP BY job, state`,
    )
    items.reset()
    for (const job of deps.jobs) oldest.set({ job }, 0)
    for (const row of rows) {
      items.set({ job: String(row.job), state: String(row.state) }, Number(row.count))
      if (row.state === 'owed') oldest.set({ job: String(row.job) }, Math.max(0, Number(row.overdue)))
    }
    // One row.
    const { rows: epoch } = await deps.db.execute(sql`SELECT alarms FROM website_worker.epoch WHERE id = 1`)
    alarms.set(Number(epoch[0]?.alarms ?? 0))
  }

  async function readQueues() {
    reachable.set(deps.backend.ready() ? 1 : 0)
    counts.reset()
    if (!deps.backend.ready()) return
    for (const queue of deps.jobs) {
      const states = await deps.backend.queue(queue).getJobCounts('waiting', 'active', 'delayed', 'completed', 'failed')
      for (const [state, count] of Object.entries(states)) counts.set({ queue, state }, count)
    }
  }

  return {
    contentType: registry.contentType,
    async render() {
      await Promise.allSettled([within(readRows(), 3_000), within(readQueues(), 3_000)])
      return registry.metrics()
    },
    runEnded(job, outcome, duration) {
      runs.inc({ job, outcome })
      seconds.observe({ job }, duration)
    },
  }
}
