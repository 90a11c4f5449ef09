import { sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import type { JobDefinition } from '../../queues/define-job.ts'
import type { Db, Tx } from '../client.ts'
import { pgErrorOf } from './pg-error.ts'

/** The work item that now stands for what was asked. */
export interface EnqueuedItem {
  workId: number
  job: string
  key: string
  siteId: number | null
  label: string
  state: 'owed' | 'running' | 'held'
  /** Why it is held. */
  reason: string | null
  generation: number
  attempts: number
  /** When it is due. */
  nextAt: Date
  /** How long until then, ms; 0 when due. */
  delayMs: number
  /** False when an unfinished item with the same key was there already: whoever made it rings it, and it is owed anew. */
  created: boolean
}

export interface EnqueueOptions {
  /** The caller rings the item after its commit, if `isToRing` says so; else the dispatcher finds it. */
  rung: boolean
  /** Who asks: `request`, `discovery`, `schedule`… Default: `request`. */
  trigger?: string
}

/** Whether the caller that promised to ring has to: the dispatcher rings what is due later than within a minute. */
export const isToRing = ({ created, state, delayMs }: EnqueuedItem) => created && state === 'owed' && delayMs <= 60_000

/**
 * Makes sure that a job is owed.
 * @throws AppError `invalid`, naming the field, when the job is unknown, a key field is missing or its row is; `conflict`
 *   when its row stands against it
 */
export async function enqueueItem(
  db: Db | Tx,
  job: string,
  payload: Readonly<Record<string, unknown>>,
  options: EnqueueOptions,
): Promise<EnqueuedItem> {
  try {
    // website_worker.enqueue_item names its indexes.
    const { rows } = await db.execute(sql`
      SELECT i.id, i.job, i.key, i.site_id, i.label, i.state, i.reason, i.generation, i.attempts,
        i.next_at, ceil(greatest(0, extract(epoch FROM i.next_at - now()) * 1000))::float8 AS delay_ms, i.created
      FROM website_worker.enqueue_item(
        ${job}, ${JSON.stringify(payload)}::jsonb, ${options.rung}, ${options.trigger ?? 'request'}) i`)
    const row = rows[0]!
    return {
      workId: Number(row.id),
      job: row.job as string,
      key: row.key as string,
      siteId: row.site_id as number | null,
      label: row.label as string,
      state: row.state as EnqueuedItem['state'],
      reason: row.reason as string | null,
      generation: row.generation as number,
      attempts: row.attempts as number,
      nextAt: new Date(row.next_at as string),
      delayMs: row.delay_ms as number,
      created: row.created as boolean,
    }
  } catch (error) {
    const cause = pgErrorOf(error)
    // What schedule_page says; the server itself names no column with it.
    if (cause?.code === '55000' && cause.column) {
      throw new AppError('conflict', cause.message, { field: cause.column, cause: error })
    }
    // What jsonb can't hold (`\u0000`, lone surrogates) is the payload's fault too.
    if (cause?.code !== '22023' && cause?.code !== '22P05' && cause?.code !== '22P02') throw error
    throw new AppError('invalid', cause.message, { field: cause.column ?? 'payload', cause: error })
  }
}

/**
 * Tells the SQL contract which jobs there are. Jobs it doesn't know stay: another release may be working on them at the
 * same time.
 */
export async function registerJobs(db: Db | Tx, catalog: readonly JobDefinition[]): Promise<void> {
  const rows = catalog.map((job) => ({
    job: job.name,
    domain: job.domain,
    key_fields: [...job.key, ...(job.optionalKey ?? []).map((field) => `${field}?`)],
    subject_field: job.subject?.field ?? null,
    subject_table: job.subject?.table ?? null,
    is_public: (job.scope ?? 'enqueue') === 'enqueue',
  }))
  // jobs_pkey; in one order, so that processes that boot together don't deadlock.
  await db.execute(sql`
    INSERT INTO website_worker.jobs AS j (job, domain, key_fields, subject_field, subject_table, is_public)
    SELECT r.* FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
      AS r(job text, domain text, key_fields text[], subject_field text, subject_table text, is_public boolean)
    ORDER BY r.job
    ON CONFLICT (job) DO UPDATE SET (domain, key_fields, subject_field, subject_table, is_public)
      = ROW (excluded.domain, excluded.key_fields, excluded.subject_field, excluded.subject_table, excluded.is_public)
    WHERE j.* IS DISTINCT FROM excluded.*`)
}

/** Forgets the jobs that left the catalog and have no unfinished work; for a migration, when one release speaks for all. */
export async function forgetJobs(db: Db | Tx, catalog: readonly JobDefinition[]): Promise<void> {
  // jobs_pkey; work_unfinished_key.
  await db.execute(sql`
    DELETE FROM website_worker.jobs j
    WHERE j.job <> ALL (${sql.param(catalog.map((job) => job.name))}::text[])
      AND NOT EXISTS (
        SELECT FROM website_worker.work w WHERE w.job = j.job AND w.state IN ('owed', 'running', 'held'))`)
}
