import { setTimeout as sleep } from 'node:timers/promises'
import { newEventSchema } from '../client/schemas.ts'
import { acceptEvents, type AcceptedEvent, type NewEvent } from '../db/queries/events.ts'
import { pgErrorOf } from '../db/queries/pg-error.ts'
import { AppError } from '../errors.ts'
import { deliverWebhook } from '../queues/deliver-webhook.ts'
import type { AppDeps } from './deps.ts'
import { invalidProblem, problemOf } from './problem.ts'

/** How long an event waits for a transaction that has locked its webhooks, and how often it asks. */
export const patienceMs = 2_000
export const knockMs = 100

/** @returns why an event isn't accepted that another transaction stood in the way of all the time. */
export const lockedError = (cause?: unknown) =>
  new AppError('unavailable', "A row of this site's webhooks is locked by another transaction: ask again shortly", {
    cause,
  })

/** Whether an event waits for another transaction. */
export const isLocked = (result: AcceptedEvent | AppError | undefined) =>
  result !== undefined && !(result instanceof AppError) && result.outcome === 'locked'

/** Commits events; the queue hears of it afterwards and is never waited for. */
async function commit(deps: AppDeps, events: readonly NewEvent[]): Promise<AcceptedEvent[]> {
  const rung = deps.bell.ready()
  const accepted = await acceptEvents(deps.db, events, { rung, wait: false })
  if (!rung) return accepted
  const rings = accepted.flatMap(({ deliveries }) =>
    deliveries.flatMap(({ status, workId, generation, label }) =>
      status === 'pending' && workId !== null && generation !== null
        ? [{ workId, job: deliverWebhook.name, generation, label, attempts: 0, delayMs: 0 }]
        : [],
    ),
  )
  if (rings.length > 0) deps.bell.ring(rings)
  const lanes = accepted.flatMap(({ deliveries }) =>
    deliveries.flatMap(({ status, lane }) => (status === 'pending' && lane !== null ? [lane] : [])),
  )
  for (const lane of new Set(lanes)) deps.pullLane(lane)
  return accepted
}

/** What an accepted event is answered with. @throws AppError that says why it was not accepted */
export function demand({ outcome, eventId, deliveries }: AcceptedEvent) {
  if (outcome === 'unknown_site') throw new AppError('invalid', 'There is no such site', { field: 'siteId' })
  if (outcome === 'conflict') {
    throw new AppError('conflict', 'An event with this id was accepted before, with other content', { field: 'id' })
  }
  if (outcome === 'locked') throw lockedError()
  const answer = { eventId, deliveries: deliveries.map(({ id, webhookId, status }) => ({ id, webhookId, status })) }
  return { outcome, answer }
}

/** Which of several events was too large, if that is the error. */
function tooLarge(error: unknown): { index: number; error: AppError } | undefined {
  if (!(error instanceof AppError) || error.code !== 'too_large') return undefined
  const index = /^events\.(\d+)\.data$/.exec(error.field ?? '')?.[1]
  if (index === undefined) return undefined
  return { index: Number(index), error: new AppError('too_large', error.message, { field: 'data' }) }
}

function refused(error: unknown) {
  const problem = problemOf(error)
  const outcomes: Record<number, 'conflict' | 'unavailable'> = { 409: 'conflict', 503: 'unavailable' }
  return { status: problem.status, outcome: outcomes[problem.status] ?? ('invalid' as const), problem }
}

function settled(accepted: AcceptedEvent) {
  try {
    const { outcome, answer } = demand(accepted)
    return { status: 202 as const, outcome, ...answer }
  } catch (error) {
    return refused(error)
  }
}

/** Accepts what is valid, in one statement; one result per item, in order. */
export async function acceptEach(deps: AppDeps, items: readonly unknown[]) {
  const results: ReturnType<typeof settled>[] = Array.from({ length: items.length })
  const valid: { event: NewEvent; at: number }[] = []
  for (const [at, item] of items.entries()) {
    const parsed = newEventSchema.safeParse(item)
    if (parsed.success) valid.push({ event: parsed.data, at })
    else {
      const problem = invalidProblem(parsed.error, 'event')
      results[at] = { status: problem.status, outcome: 'invalid', problem }
    }
  }
  const accepted = await commitPatiently(
    deps,
    valid.map(({ event }) => event),
  )
  for (const [index, { at }] of valid.entries()) {
    const outcome = accepted[index]!
    results[at] = outcome instanceof AppError ? refused(outcome) : settled(outcome)
  }
  return results
}

/** Commits the events that fit and can be; asks again for those whose webhooks someone has locked, for a while. */
async function commitPatiently(deps: AppDeps, events: readonly NewEvent[]): Promise<(AcceptedEvent | AppError)[]> {
  const results = await commitFitting(deps, events)
  const until = performance.now() + patienceMs
  for (;;) {
    const locked = [...results.keys()].filter((at) => isLocked(results[at]))
    if (locked.length === 0 || performance.now() > until) return results
    await sleep(knockMs)
    const again = await commitFitting(
      deps,
      locked.map((at) => events[at]!),
    ).catch(() => undefined)
    // The others are committed: they are told so, whatever becomes of these.
    if (!again) return results
    for (const [index, at] of locked.entries()) results[at] = again[index]!
  }
}

/** Commits the events that aren't too large; those that are get their error instead. */
export async function commitFitting(deps: AppDeps, events: readonly NewEvent[]): Promise<(AcceptedEvent | AppError)[]> {
  const results: (AcceptedEvent | AppError)[] = Array.from({ length: events.length })
  let left = [...events.keys()]
  // Noticed before anything is written, one at a time; the body's limit leaves room for 32.
  while (left.length > 0) {
    try {
      const accepted = await commit(
        deps,
        left.map((at) => events[at]!),
      )
      for (const [index, at] of left.entries()) results[at] = accepted[index]!
      break
    } catch (error) {
      if (pgErrorOf(error)?.code === '55P03') throw lockedError(error)
      const found = tooLarge(error)
      if (!found) throw error
      const [at] = left.splice(found.index, 1)
      results[at!] = found.error
    }
  }
  return results
}
