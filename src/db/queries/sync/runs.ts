import { randomUUID } from 'node:crypto'
import { sql, type SQL } from 'drizzle-orm'
import { transact, type Db, type Tx } from '../../client.ts'
import type { SyncMode, SyncType } from '../../../erp.ts'

/** How long a run's lease lasts, ms, unless it is renewed. */
export const runLeaseMs = 30_000

/** What a run was asked for. */
export interface RunOptions {
  force?: true | undefined
  /** Compares, and writes nothing. */
  audit?: true | undefined
  /** Only these. Default: all. */
  skus?: string[] | undefined
  /** Rows of erp_asks that it answers. */
  asks?: number[] | undefined
}

/** What a run that begins is to do. */
export interface RunPlan {
  mode: SyncMode
  /** Where the last traversal began; null: everything is read. */
  since: string | null
  isFirst: boolean
  options: RunOptions
}

/** A run as its row has it. */
export interface RunRow extends RunPlan {
  runId: number
  token: string
  phase: 'fetching' | 'applying'
  /** The page that is next; null before the first. */
  cursor: string | null
  checkpoint: string | null
  staged: number
  rejected: number
  appliedThrough: number
}

/** A stream of a site that a work item wants to read. */
export interface RunWanted {
  siteId: number
  type: SyncType
  workId: number
  source: string
}

export type BegunRun =
  | { kind: 'run'; row: RunRow; isTakenOver: boolean }
  /** Another item's run is under way, or about to go on. */
  | { kind: 'busy' }
  /** There is nothing to do. */
  | { kind: 'unneeded' }

/** A run that waits no longer than this to go on is waited for; one that waits longer has to begin anew. */
const patienceMs = 120_000

const columns = sql`r.id AS "runId", r.token, r.mode, r.phase, r.options, r.is_first AS "isFirst", r.since, r.cursor,
  r.checkpoint, r.staged, r.rejected, r.applied_through AS "appliedThrough"`

const readRow = (row: Record<string, unknown>) => ({ ...row, runId: Number(row['runId']) }) as unknown as RunRow

/**
 * Begins a run of a stream, or goes on with the one that this work item began: under a new token, so that a process that
 * still believes it has it writes no more. There is one run at a time for each stream of a site.
 */
export function beginRun(db: Db, wanted: RunWanted, plan: (tx: Tx) => Promise<RunPlan | undefined>): Promise<BegunRun> {
  const { siteId, type, workId, source } = wanted
  const token = randomUUID()
  return transact(db, async (tx) => {
    // sync_runs_running, then work_pkey. A run that is just writing is locked, and found by the insert below.
    const { rows } = await tx.execute(
      sql`SELECT ${columns}, r.work_id = ${workId} AS "isOurs", r.source = ${source} AND ${isStaged(sql`r`)} AS "isWhole",
            r.lease_until > now() OR coalesce(w.state = 'running'
              OR (w.state = 'owed' AND w.next_at < now() + ${patienceMs} * interval '1 ms'), false) AS "isBusy"
          FROM website_worker.sync_runs r LEFT JOIN website_worker.work w ON w.id = r.work_id
          WHERE r.site_id = ${siteId} AND r.type = ${type} AND r.state = 'running' FOR UPDATE OF r SKIP LOCKED`,
    )
    if (rows[0]) {
      const { isOurs, isWhole, isBusy, ...row } = rows[0]
      if (!isOurs && isBusy) return { kind: 'busy' }
      if (isOurs && isWhole) {
        await touch(tx, Number(row['runId']), sql`token = ${token}::uuid`)
        return { kind: 'run', row: { ...readRow(row), token }, isTakenOver: true }
      }
      await abandon(
        tx,
        Number(row['runId']),
        isOurs ? 'what it had read is lost, or of another ERP' : 'it was left behind',
      )
    }
    const planned = await plan(tx)
    if (!planned) return { kind: 'unneeded' }
    const row = await insertRun(tx, wanted, planned, token)
    return row ? { kind: 'run', row, isTakenOver: false } : { kind: 'busy' }
  })
}

/** Begins a run anew, as a full one, because the ERP no longer knows where it was. */
export function restartRun(db: Db, wanted: RunWanted, run: RunRow): Promise<RunRow | undefined> {
  const { token, options, isFirst } = run
  return transact(db, async (tx) => {
    // Primary key.
    const { rowCount } = await tx.execute(
      sql`UPDATE website_worker.sync_runs SET state = 'abandoned', finished_at = now(), error = 'the ERP no longer knew its place'
          WHERE id = ${run.runId} AND token = ${token}::uuid AND state = 'running'`,
    )
    if (rowCount === 0) return undefined
    const mode = run.mode === 'targeted' ? 'targeted' : 'full'
    return insertRun(tx, wanted, { mode, since: null, isFirst, options }, token)
  })
}

/** Whether a run's staging is there: the server forgets all of it when it crashes, and its first row with the others. */
const isStaged = (r: SQL) => sql`(${r}.staged = 0 OR EXISTS (
  SELECT FROM website_worker.sync_staging s WHERE s.run_id = ${r}.id AND s.n = 1))`

async function insertRun(tx: Tx, wanted: RunWanted, plan: RunPlan, token: string): Promise<RunRow | undefined> {
  const { siteId, type, workId, source } = wanted
  const { mode, since, isFirst, options } = plan
  // sync_runs_running.
  const { rows } = await tx.execute(
    sql`INSERT INTO website_worker.sync_runs AS r (site_id, type, mode, work_id, token, lease_until, options, is_first, source, since)
        VALUES (${siteId}, ${type}, ${mode}, ${workId}, ${token}::uuid, now() + ${runLeaseMs} * interval '1 ms',
          ${JSON.stringify(options)}::jsonb, ${isFirst}, ${source}, ${since})
        ON CONFLICT (site_id, type) WHERE state = 'running' DO NOTHING RETURNING ${columns}`,
  )
  if (!rows[0]) return undefined
  const row = readRow(rows[0])
  // The end of the run before it may have been waited for: since this transaction began, and no sooner than that ended.
  await touch(tx, row.runId, sql`started_at = clock_timestamp()`)
  return row
}

async function touch(tx: Tx, runId: number, set: SQL): Promise<void> {
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.sync_runs SET lease_until = now() + ${runLeaseMs} * interval '1 ms', ${set} WHERE id = ${runId}`,
  )
}

async function abandon(tx: Tx, runId: number, why: string): Promise<void> {
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.sync_runs SET state = 'abandoned', finished_at = now(), error = ${why} WHERE id = ${runId}`,
  )
}

/**
 * Keeps a run's lease; false when another process has it. While a chunk of the run is being written its row is locked, and
 * nobody else can begin either: that isn't waited for.
 */
export async function renewRun(db: Db, { runId, token }: Pick<RunRow, 'runId' | 'token'>): Promise<boolean> {
  // Primary key.
  const { rows } = await db.execute(
    sql`WITH mine AS MATERIALIZED (
          SELECT id FROM website_worker.sync_runs WHERE id = ${runId} AND token = ${token}::uuid AND state = 'running'),
        free AS MATERIALIZED (
          SELECT id FROM website_worker.sync_runs
          WHERE id = ${runId} AND token = ${token}::uuid AND state = 'running' FOR UPDATE SKIP LOCKED),
        renewed AS (
          UPDATE website_worker.sync_runs SET lease_until = now() + ${runLeaseMs} * interval '1 ms'
          WHERE id IN (SELECT id FROM free))
        SELECT FROM mine`,
  )
  return rows.length === 1
}

/** What a page brought. */
export interface PageNote extends Pick<RunRow, 'cursor' | 'phase' | 'staged'> {
  /** Kept if it is the first page's. */
  checkpoint: string
  rejected: number
}

/** Notes a page, in the transaction that stages it. */
export function notePage(tx: Tx, { runId }: Pick<RunRow, 'runId'>, page: PageNote): Promise<void> {
  return touch(
    tx,
    runId,
    sql`cursor = ${page.cursor}, phase = ${page.phase}, staged = ${page.staged}, pages = pages + 1,
        rejected = rejected + ${page.rejected}, checkpoint = coalesce(checkpoint, ${page.checkpoint})`,
  )
}

/** How many rows one statement removes. */
const batch = 10_000

/**
 * Removes what ended runs had staged, a batch a statement, and gives up the runs whose work item has ended without them;
 * for at most `budgetMs`. Returns how many rows that was.
 */
export async function sweepRuns(db: Db, budgetMs: number): Promise<number> {
  const until = performance.now() + budgetMs
  // sync_runs_running is small; work_pkey. A cancelled item's process is told to stop before its lease lapses.
  const { rowCount } = await db.execute(
    sql`UPDATE website_worker.sync_runs r SET state = 'abandoned', finished_at = now(), error = 'its job ended without it'
        WHERE r.id = ANY (ARRAY(
          SELECT r.id FROM website_worker.sync_runs r LEFT JOIN website_worker.work w ON w.id = r.work_id
          WHERE r.state = 'running' AND r.lease_until < now() AND (w.id IS NULL OR w.state IN ('done', 'failed', 'cancelled'))
          FOR UPDATE OF r SKIP LOCKED))`,
  )
  let swept = rowCount ?? 0
  // The primary key of sync_staging, run by run; sync_runs_pkey.
  const { rows } = await db.execute(
    sql`WITH RECURSIVE staged AS (
          (SELECT min(run_id) AS id FROM website_worker.sync_staging)
          UNION ALL
          SELECT (SELECT min(run_id) FROM website_worker.sync_staging WHERE run_id > s.id) FROM staged s WHERE s.id IS NOT NULL)
        SELECT s.id FROM staged s LEFT JOIN website_worker.sync_runs r ON r.id = s.id
        WHERE s.id IS NOT NULL AND r.state IS DISTINCT FROM 'running'`,
  )
  for (const { id } of rows) {
    for (let removed = batch; removed > 0 && performance.now() < until; swept += removed) {
      // Primary key.
      const { rowCount } = await db.execute(
        sql`DELETE FROM website_worker.sync_staging WHERE run_id = ${id}
            AND n < (SELECT min(n) FROM website_worker.sync_staging WHERE run_id = ${id}) + ${batch}`,
      )
      removed = rowCount ?? 0
    }
  }
  return swept
}
