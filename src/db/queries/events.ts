import { createHash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import type { Db, Tx } from '../client.ts'
import { pgErrorOf } from './pg-error.ts'

/** An event as the rest of the worker hands it over; its fields are valid. */
export interface NewEvent {
  siteId: number
  event: string
  /** Any JSON value. */
  data: unknown
  /** Default: one is made. */
  id?: string | undefined
  /** When it happened; the body's `timestamp`. Default: now. */
  occurredAt?: Date | string | undefined
}

export interface AcceptedDelivery {
  id: number
  webhookId: number
  status: 'pending' | 'held'
  /** The work item to ring, or null where this call made none. */
  workId: number | null
  generation: number | null
  label: string
  /** The lane it waits in for its turn, or null where it needn't. */
  lane: string | null
}

export interface AcceptedEvent {
  /**
   * `replayed`: the same event was accepted before. `conflict`: its id was, with other content. `locked`: not accepted,
   * since another transaction has locked a webhook it is for.
   */
  outcome: 'accepted' | 'replayed' | 'conflict' | 'locked' | 'unknown_site'
  eventId: string
  deliveries: AcceptedDelivery[]
}

export interface AcceptOptions {
  /** The caller rings every pending delivery after its commit; else the dispatcher finds them. */
  rung: boolean
  /** False: what can't be accepted before another transaction ends comes back as `locked`. Default: true. */
  wait?: boolean
  /** Default: the clock. */
  now?: Date
}

const maxBodyBytes = 262_144
/** Deadlock detected, serialization failure: both mean that nothing happened and asking again is right. */
const transient = new Set(['40P01', '40001'])

/**
 * Accepts events, each with its deliveries, in one statement; answers in the order given.
 * @throws AppError `too_large` when a body exceeds 256 KiB: none is accepted then
 */
export async function acceptEvents(
  db: Db | Tx,
  events: readonly NewEvent[],
  options: AcceptOptions,
): Promise<AcceptedEvent[]> {
  if (events.length === 0) return []
  const now = options.now ?? new Date()
  const written = events.map((event, index) => write(event, index, now))
  // website_worker.accept_events names its indexes.
  const statement = sql`
    SELECT a.event_id AS "eventId", a.outcome, a.deliveries
    FROM website_worker.accept_events(
      ${sql.param(events.map((event) => event.siteId))}::int[],
      ${sql.param(events.map((event) => event.id ?? null))}::text[],
      ${sql.param(events.map((event) => event.event))}::text[],
      ${sql.param(written.map((event) => event.body))}::text[],
      ${sql.param(written.map((event) => event.hash))}::text[],
      ${options.rung}, ${options.wait ?? true}) a
    ORDER BY a.ord`
  const accept = async () => (await db.execute<AcceptedEvent & Record<string, unknown>>(statement)).rows
  try {
    return await accept()
  } catch (error) {
    // Inside a transaction nothing more can be asked of it.
    if ('rollback' in db || !transient.has(pgErrorOf(error)?.code ?? '')) throw error
    return await accept()
  }
}

/** The exact bytes to sign and send, as text, since jsonb refuses `\u0000` and lone surrogates; and what tells a repeat. */
function write(event: NewEvent, index: number, now: Date): { body: string; hash: string } {
  const occurredAt = event.occurredAt === undefined ? undefined : new Date(event.occurredAt).toISOString()
  const data = JSON.stringify(event.data ?? null)
  const timestamp = occurredAt ?? now.toISOString()
  const body = `{"type":${JSON.stringify(event.event)},"timestamp":"${timestamp}","siteId":${event.siteId},"data":${data}}`
  const bytes = Buffer.byteLength(body)
  if (bytes > maxBodyBytes) {
    throw new AppError('too_large', `the event is ${bytes} bytes long, at most ${maxBodyBytes} are possible`, {
      field: `events.${index}.data`,
    })
  }
  return {
    body,
    hash: createHash('sha256')
      .update(`${event.event}\n${occurredAt ?? ''}\n${data}`)
      .digest('hex'),
  }
}
