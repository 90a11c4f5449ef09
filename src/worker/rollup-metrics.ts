import { sql } from 'drizzle-orm'
import { Gauge, type Registry } from 'prom-client'
import type { Db } from '../db/client.ts'
import { atMost } from '../deadline.ts'

interface RollupState {
  /** How long what has waited longest for a roll-up has waited, s. */
  lag: number
  dirtySites: number
  /** Of the last recount; null: there was none in the last week. */
  drifted: number | null
}

async function readRollups(db: Db): Promise<RollupState> {
  // A row a site; analytics_dirty_pkey, the newest of each; work_job_key.
  const { rows } = await db.execute(
    sql`SELECT coalesce(max(extract(epoch FROM now() - CASE WHEN d.at IS NOT NULL THEN greatest(d.at, r.rolled_through) END)), 0)::float8 AS lag,
          count(*)::int AS "dirtySites",
          (SELECT (w.result ->> 'drifted')::int FROM website_worker.work w
           WHERE w.job = 'recount-analytics' AND w.key = '' AND w.state = 'done' ORDER BY w.id DESC LIMIT 1) AS drifted
        FROM public.website_sites s
        LEFT JOIN website_worker.rollup_sites r ON r.site_id = s.id
        CROSS JOIN LATERAL (
          SELECT min(f.at) AS at, count(*) AS n FROM (
            SELECT d.at FROM website_worker.analytics_dirty d WHERE d.site_id = s.id ORDER BY d.hour DESC LIMIT 1000) f) d
        WHERE d.n > 0 AND website_worker.hold_reason('rollups', s.id) IS NULL`,
  )
  return rows[0] as unknown as RollupState
}

/** Gauges of how fresh and how right the analytics are; returns what reads them. */
export function createRollupMetrics(registry: Registry, deadlineMs: number): (db: Db) => Promise<void> {
  const registers = [registry]
  const lag = new Gauge({
    name: 'website_worker_rollup_lag_seconds',
    help: 'How long what was written has waited to be counted, where it has waited longest; 0 when all is counted',
    registers,
  })
  const dirty = new Gauge({
    name: 'website_worker_rollup_dirty_sites',
    help: 'Sites with pageviews or events that are yet to be counted',
    registers,
  })
  const drifted = new Gauge({
    name: 'website_worker_rollup_drift_buckets',
    help: 'Days and hours of analytics that differed at the last recount of a sample; they are computed again',
    registers,
  })
  return async (db) => {
    const found = await atMost(deadlineMs, readRollups(db)).catch(() => undefined)
    for (const gauge of [lag, dirty, drifted]) gauge.remove()
    if (!found || found === 'late') return
    lag.set(found.lag)
    dirty.set(found.dirtySites)
    if (found.drifted !== null) drifted.set(found.drifted)
  }
}
