import { sql } from 'drizzle-orm'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Db } from '../db/client.ts'
import { atMost } from '../deadline.ts'
import { readStreams } from '../db/queries/sync/checkpoints.ts'
import type { QueueBackend } from '../work/backend.ts'
import { createMaintenanceMetrics } from './maintenance-metrics.ts'
import { createRollupMetrics } from './rollup-metrics.ts'

/** The process's metrics: what runs report, and what is read when someone scrapes. */
export interface Metrics {
  contentType: string
  render(): Promise<string>
  runEnded(job: string, outcome: string, seconds: number): void
  /** A page was published so long after the time it was scheduled for. */
  pagePublished(latenessSeconds: number): void
  /** An ERP answered a request for a page, or didn't. */
  erpCalled(outcome: string): void
  /** A sync changed, or left alone, so many rows. */
  rowsSynced(type: string, change: string, rows: number): void
}

const queueStates = ['waiting', 'active', 'delayed', 'completed', 'failed'] as const

interface ItemCount {
  job: string
  state: string
  count: number
  /** How long the most overdue one has been due, s; null where nothing is owed. */
  overdue: number | null
}

interface Counts {
  items: ItemCount[]
  alarms: number
  /** Webhooks that the worker switched off, and those that are on and only fail. */
  webhooks: { disabled: number; failing: number }
}

async function countItems(db: Db): Promise<Counts> {
  // work_owed_unrung, work_parked, work_owed_rung, work_running, work_held and work_failed, one branch each: a single
  // condition on the state could use none of them and would read every finished row.
  const { rows } = await db.execute(
    sql`SELECT job, state, sum(count)::int AS count, extract(epoch FROM now() - min(next_at))::float8 AS overdue FROM (
          SELECT job, 'owed' AS state, count(*) AS count, min(next_at) AS next_at
          FROM website_worker.work WHERE state = 'owed' AND rung_at IS NULL AND lane IS NULL GROUP BY job
          UNION ALL
          SELECT job, 'parked', count(*), NULL
          FROM website_worker.work WHERE state = 'owed' AND rung_at IS NULL AND lane IS NOT NULL GROUP BY job
          UNION ALL
          SELECT job, 'owed', count(*), min(next_at)
          FROM website_worker.work WHERE state = 'owed' AND rung_at IS NOT NULL GROUP BY job
          UNION ALL
          SELECT job, 'running', count(*), NULL FROM website_worker.work WHERE state = 'running' GROUP BY job
          UNION ALL
          SELECT job, 'held', count(*), NULL FROM website_worker.work WHERE state = 'held' GROUP BY job
          UNION ALL
          SELECT job, 'failed', count(*), NULL FROM website_worker.work WHERE state = 'failed' GROUP BY job) counts
        GROUP BY job, state`,
  )
  // One row; one row per webhook, with its primary key.
  const { rows: others } = await db.execute(
    sql`SELECT (SELECT alarms FROM website_worker.epoch WHERE id = 1) AS alarms,
          count(*) FILTER (WHERE h.disabled_at IS NOT NULL AND w.is_active IS NOT TRUE)::int AS disabled,
          count(*) FILTER (WHERE h.failing_since IS NOT NULL AND w.is_active)::int AS failing
        FROM website_worker.webhook_health h JOIN public.website_webhooks w ON w.id = h.webhook_id
        WHERE h.disabled_at IS NOT NULL OR h.failing_since IS NOT NULL`,
  )
  const { alarms, disabled, failing } = others[0] as { alarms: string | null; disabled: number; failing: number }
  return {
    items: rows.map((row) => ({
      job: row.job as string,
      state: row.state as string,
      count: row.count as number,
      overdue: row.overdue as number | null,
    })),
    alarms: Number(alarms ?? 0),
    webhooks: { disabled, failing },
  }
}

/**
 * Queue and item counts are read at scrape time; a queue or database that is away leaves its gauges out. `freshMs`: how
 * long one reading serves whoever scrapes. Default: 2000. `deadlineMs`: how long a reading may take. Default: 3000.
 */
export function createMetrics(
  deps: { db: Db; backend: QueueBackend; jobs: readonly string[] },
  options: { freshMs?: number; deadlineMs?: number } = {},
): Metrics {
  const { freshMs = 2_000, deadlineMs = 3_000 } = options
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
  const lateness = new Histogram({
    name: 'website_worker_publish_lateness_seconds',
    help: 'Time from when a page was scheduled for to when it was published',
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3_600],
    registers,
  })
  const erpCalls = new Counter({
    name: 'website_worker_erp_calls_total',
    help: 'Pages asked of ERPs, by what came of it',
    labelNames: ['outcome'],
    registers,
  })
  const syncRows = new Counter({
    name: 'website_worker_sync_rows_total',
    help: 'Rows by what syncs did to them',
    labelNames: ['type', 'change'],
    registers,
  })
  const drift = new Gauge({
    name: 'website_worker_erp_drift',
    help: "Rows of a site that differed from its ERP's at the last full run or audit",
    labelNames: ['site', 'type'],
    registers,
  })
  const synced = new Gauge({
    name: 'website_worker_sync_last_success_seconds',
    help: 'Time since a stream of a site was last read to its end',
    labelNames: ['site', 'type'],
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
  const disabled = new Gauge({
    name: 'website_worker_webhooks_disabled',
    help: 'Webhooks that the worker switched off: after days of failures, or a 410',
    registers,
  })
  const failing = new Gauge({
    name: 'website_worker_webhooks_failing',
    help: 'Webhooks that are on and have only failed since their last success',
    registers,
  })

  const readMaintenance = createMaintenanceMetrics(registry, deadlineMs)
  const readRollups = createRollupMetrics(registry, deadlineMs)

  async function readItems() {
    const read = await atMost(deadlineMs, countItems(deps.db)).catch(() => undefined)
    items.reset()
    oldest.reset()
    for (const gauge of [alarms, disabled, failing]) gauge.remove()
    if (!read || read === 'late') return
    alarms.set(read.alarms)
    disabled.set(read.webhooks.disabled)
    failing.set(read.webhooks.failing)
    for (const job of deps.jobs) oldest.set({ job }, 0)
    for (const { job, state, count, overdue } of read.items) {
      items.set({ job, state }, count)
      if (overdue !== null) oldest.set({ job }, Math.max(0, overdue))
    }
  }

  async function readSyncs() {
    const read = await atMost(deadlineMs, readStreams(deps.db)).catch(() => undefined)
    drift.reset()
    synced.reset()
    if (!read || read === 'late') return
    for (const { siteId, type, drift: differing, age } of read) {
      const labels = { site: String(siteId), type }
      if (differing !== null) drift.set(labels, differing)
      if (age !== null) synced.set(labels, age)
    }
  }

  const countRings = () =>
    Promise.all(
      deps.jobs.map(async (queue) => ({
        queue,
        states: await deps.backend.queue(queue).getJobCounts(...queueStates),
      })),
    )

  async function readQueues() {
    const read = deps.backend.ready() && (await atMost(deadlineMs, countRings()).catch(() => undefined))
    counts.reset()
    reachable.set(read && read !== 'late' ? 1 : 0)
    if (!read || read === 'late') return
    for (const { queue, states } of read) {
      for (const [state, count] of Object.entries(states)) counts.set({ queue, state }, count)
    }
  }

  let reading: { since: number; ended: Promise<unknown> } | undefined

  return {
    contentType: registry.contentType,
    async render() {
      // Scrapes that come together, or soon after one another, share what the database was asked.
      if (!reading || performance.now() - reading.since >= freshMs) {
        reading = {
          since: performance.now(),
          ended: Promise.all([readItems(), readQueues(), readSyncs(), readMaintenance(deps.db), readRollups(deps.db)]),
        }
      }
      await reading.ended
      return registry.metrics()
    },
    runEnded(job, outcome, duration) {
      runs.inc({ job, outcome })
      seconds.observe({ job }, duration)
    },
    pagePublished: (latenessSeconds) => lateness.observe(latenessSeconds),
    erpCalled: (outcome) => erpCalls.inc({ outcome }),
    rowsSynced: (type, change, rows) => syncRows.inc({ type, change }, rows),
  }
}
