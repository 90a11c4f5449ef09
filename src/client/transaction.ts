import { AppError } from '../errors.ts'
import { selectValue, type Argument, type DrizzleHandle, type PgHandle } from './handle.ts'
import { newEventSchema, type NewEvent } from './schemas.ts'

/** An event in the caller's transaction: it happens when it is emitted. */
export type EmittedEvent = Omit<NewEvent, 'occurredAt'>

/**
 * Emits an event in the caller's own transaction: sent within about a second of its commit, or never if it is rolled
 * back. The role needs no grant.
 * @returns the event's id
 * @throws AppError `invalid`, before the transaction is touched; else what the database says
 */
export async function emitEvent(tx: DrizzleHandle | PgHandle, event: EmittedEvent): Promise<string> {
  const { siteId, event: name, data, id } = parseEvent(event)
  const value = await selectOne(tx, 'website_worker.emit_event', [
    [siteId, 'int'],
    [name, 'text'],
    [toJsonb(data, 'data'), 'text::jsonb'],
    [id ?? null, 'text'],
  ])
  return String(value)
}

/**
 * Enqueues a job in the caller's own transaction: run after its commit, or never if it is rolled back. The role needs
 * no grant.
 * @returns the work item's id: of a new one, or of the unfinished one with the same key
 * @throws AppError `invalid`, before the transaction is touched; else what the database says
 */
export async function enqueue(tx: DrizzleHandle | PgHandle, job: string, payload: object): Promise<number> {
  const value = await selectOne(tx, 'website_worker.enqueue', [
    [job, 'text'],
    [toJsonb(payload, 'payload'), 'text::jsonb'],
  ])
  return Number(value)
}

function parseEvent(event: EmittedEvent): EmittedEvent {
  const parsed = newEventSchema.omit({ occurredAt: true }).safeParse(event)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue?.path.join('.')
  throw new AppError(
    'invalid',
    `${field ? `${field}: ` : ''}${issue?.message ?? 'invalid event'}`,
    field ? { field } : {},
  )
}

/** An escape that JSON has and jsonb hasn't: NUL, or half of a surrogate pair, which JSON.stringify writes as escapes. */
const unstorable = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/

function toJsonb(value: unknown, field: string): string {
  const text = JSON.stringify(value)
  if (text === undefined) throw new AppError('invalid', `${field}: not a JSON value`, { field })
  if (unstorable.test(text)) {
    throw new AppError('invalid', `${field}: holds a NUL or half a surrogate pair, which jsonb can't store`, { field })
  }
  return text
}

/** One SELECT of one function. */
const selectOne = (tx: DrizzleHandle | PgHandle, name: string, args: readonly Argument[]) =>
  selectValue(tx, args, (...placed) => `SELECT ${name}(${placed.join(', ')}) AS value`)
