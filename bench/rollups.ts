import { sql } from 'drizzle-orm'
import type pg from 'pg'
import { pino } from 'pino'
import { createDatabase, transact, type Db, type Tx } from '../src/db/client.ts'
import { recomputePagesHourly } from '../src/db/queries/rollups/pages-hourly.ts'
import { lockSite } from '../src/db/queries/rollups/site.ts'
import { takeDirtyHours } from '../src/db/queries/rollups/take.ts'
import { AppError } from '../src/errors.ts'
import { rollUpAnalyticsProcessor } from '../src/processors/roll-up-analytics.ts'
import { rollUpStep } from '../src/processors/rollups/step.ts'
import { cloneDatabase, startPostgres } from '../test/fixtures/services.ts'
import { percentile } from './measure.ts'
import { addHistory, addPageviews, makeSites, repeatHistory, repeatRollups } from './rollups-data.ts'
import { measureInserts } from './rollups-inserts.ts'

const rows = 2_000_000
const growth = 4
const historyDays = 30
const fresh = 20_000
const freshHours = 3
const times = 3

const hourMs = 3_600_000
const dayMs = 24 * hourMs

interface Bench {
  db: Db
  pool: pg.Pool
  siteIds: readonly number[]
  /** Until when there is history; what is new comes after it. */
  now: Date
}

const median = (values: readonly number[]) => percentile(values, 0.5)
const tenth = (value: number) => Math.round(value * 10) / 10
const hundredth = (value: number) => Math.round(value * 100) / 100
const newest = { through: 'infinity', from: '-infinity', days: 2 }

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}

/** What was there before is counted as users have it counted: the job itself, on two sites at a time. */
async function backfill({ db, siteIds }: Bench): Promise<void> {
  const left = [...siteIds]
  const take = async () => {
    for (let siteId = left.shift(); siteId !== undefined; siteId = left.shift()) {
      const outcome = await rollUpAnalyticsProcessor.process(
        { siteId, from: '1970-01-01' },
        { rollups: { db } },
        {
          workId: siteId,
          attempt: 1,
          trigger: 'request',
          lane: null,
          loaded: undefined,
          log: pino({ level: 'silent' }),
          signal: new AbortController().signal,
          progress: () => {},
        },
      )
      if (outcome.kind !== 'done') throw new Error(`a backfill ended as ${outcome.kind}`)
      await db.execute(sql`DELETE FROM website_worker.rollup_ranges`)
    }
  }
  await Promise.all([take(), take()])
}

/** All tables: what is new, of every site. */
async function rollUp({ db, siteIds }: Bench): Promise<void> {
  for (const siteId of siteIds) {
    for (let through: string | null = 'infinity'; through !== null;) {
      const step = await rollUpStep(db, siteId, { ...newest, through })
      through = step?.isClean ? null : (step?.through ?? null)
    }
  }
}

// Of a kind that leaves the connection open.
const takeBack = new AppError('conflict', 'taken back')

/** One table alone, page_hourly: the log is read and its hours are computed again, of user agents that are known. Nothing stays. */
async function rollUpPagesHourly({ db, siteIds }: Bench): Promise<number> {
  let tookMs = 0
  for (const siteId of siteIds) {
    await transact(db, async (tx: Tx) => {
      tookMs += await timed(async () => {
        const site = (await lockSite(tx, siteId))!
        const { pageviews } = await takeDirtyHours(tx, site, newest)
        await recomputePagesHourly(tx, site, pageviews)
      })
      throw takeBack
    }).catch((error: unknown) => {
      if (error !== takeBack) throw error
    })
  }
  return tookMs
}

/** What one writes who has no roll-up: page_hourly, of all rows there are. Bots are told as simply as can be. */
const createView = (pool: pg.Pool) =>
  pool.query(`
    CREATE MATERIALIZED VIEW bench_page_hourly AS
    SELECT p.site_id, date_trunc('hour', p.created_at AT TIME ZONE 'UTC', s.timezone) AS hour, p.page_id,
      regexp_replace(p.page_url, '^https://[^/]*([^?]*).*$', '\\1') AS page_path,
      count(*)::int AS pageviews, count(DISTINCT p.session_id)::int AS visitors
    FROM website_pageviews p JOIN website_sites s ON s.id = p.site_id
    WHERE p.user_agent NOT LIKE '%Googlebot%'
    GROUP BY 1, 2, 3, 4`)

/** The view and the roll-up must say the same, or nothing was measured. */
async function compare(pool: pg.Pool): Promise<void> {
  const columns = 'site_id, hour, page_id, page_path, pageviews, visitors'
  const { rows: found } = await pool.query<{ differing: number; rows: number }>(`
    SELECT count(*)::int AS differing, (SELECT count(*)::int FROM bench_page_hourly) AS rows FROM (
      SELECT ${columns} FROM (SELECT ${columns} FROM bench_page_hourly UNION ALL
        SELECT ${columns} FROM website_analytics_page_hourly) u
      GROUP BY ${columns} HAVING count(*) <> 2) d`)
  const { differing, rows: all } = found[0]!
  if (differing > 0 || all === 0) throw new Error(`${differing} rows of ${all} differ from the view`)
}

async function lastId(pool: pg.Pool): Promise<number> {
  const { rows: found } = await pool.query<{ id: number }>('SELECT max(id) AS id FROM website_pageviews')
  return found[0]!.id
}

/** New rows come and are counted, a few times over; the view is refreshed where there is one. */
async function measure(bench: Bench, { refresh }: { refresh: boolean }) {
  const { pool, now } = bench
  const took = { one: [] as number[], all: [] as number[], refresh: [] as number[] }
  for (let n = 0; n < times; n++) {
    const last = await lastId(pool)
    const to = new Date(now.getTime() + freshHours * hourMs)
    await addPageviews(pool, { rows: fresh, from: now, to, seed: 1_000 + n })
    took.one.push(await rollUpPagesHourly(bench))
    took.all.push(await timed(() => rollUp(bench)))
    if (refresh) {
      took.refresh.push(await timed(() => pool.query('REFRESH MATERIALIZED VIEW bench_page_hourly')))
      await compare(pool)
    }
    await pool.query('DELETE FROM website_pageviews WHERE id > $1', [last])
    await rollUp(bench)
    await pool.query('VACUUM website_pageviews')
  }
  return { oneMs: median(took.one), allMs: median(took.all), refreshMs: median(took.refresh) }
}

/** What exact rollups cost: the writer, the roll-up, a backfill; beside a materialized view, and as the past grows. */
export async function benchRollups(): Promise<Record<string, number>> {
  const postgres = await startPostgres()
  const clone = await cloneDatabase(postgres.url)
  const { db, pool, close } = createDatabase({ url: clone.url, max: 4, statementTimeoutMs: 600_000 })
  try {
    const now = new Date(Math.floor(Date.now() / hourMs) * hourMs - freshHours * hourMs)
    const bench = { db, pool, now, siteIds: await makeSites(pool) }
    await addHistory(pool, { rows, from: new Date(now.getTime() - historyDays * dayMs), to: now, seed: 1 })
    const backfillMs = await timed(() => backfill(bench))
    await pool.query('VACUUM (ANALYZE)')
    await createView(pool)
    const once = await measure(bench, { refresh: true })
    const last = await lastId(pool)
    const insertRatio = await measureInserts(pool, bench.siteIds)
    await pool.query('DELETE FROM website_pageviews WHERE id > $1', [last])
    await rollUp(bench)

    await pool.query('DROP MATERIALIZED VIEW bench_page_hourly')
    await repeatHistory(pool, growth - 1, historyDays)
    await repeatRollups(pool, growth - 1, historyDays)
    await pool.query('VACUUM (ANALYZE)')
    const grown = await measure(bench, { refresh: false })
    return {
      rows,
      incrementalMs: tenth(once.oneMs),
      incrementalAllMs: tenth(once.allMs),
      refreshMs: tenth(once.refreshMs),
      ratioRefresh: tenth(once.refreshMs / once.oneMs),
      growth4x: hundredth(grown.oneMs / once.oneMs),
      growth4xAll: hundredth(grown.allMs / once.allMs),
      insertRatio: hundredth(insertRatio),
      backfillRowsPerS: Math.round((rows * 1_000) / backfillMs),
    }
  } finally {
    await close()
    await clone.drop()
    await postgres.stop()
  }
}
