import type { AcceptedEvent, NewEvent } from '../db/queries/events.ts'
import { isUnreachable } from '../db/unreachable.ts'
import { AppError } from '../errors.ts'
import { commitFitting, demand, isLocked, knockMs, lockedError, patienceMs } from './accept.ts'
import { createLane } from './accept-lane.ts'
import type { AppDeps } from './deps.ts'

/** Statements under way at a time, and events in each, at most. */
const mostAtOnce = 4
const mostTogether = 64
/** Statements for one event each, at most, after one for several failed. */
const mostApart = 8
/** Events inside at a time, at most, and how long one may wait for its turn. */
const mostInside = 10_000
const turnMs = 5_000
/** How long the events of a site that a statement waited for in vain keep to themselves. */
const apartMs = 10_000

interface Waiting {
  event: NewEvent
  since: number
  resolve(accepted: AcceptedEvent | AppError): void
  reject(error: unknown): void
}

const doorOf = ({ event }: Waiting) => `${event.siteId}:${event.event}`

/** Those that still have time; the others are told why not. */
function inTime(group: readonly Waiting[], ms: number, why: () => AppError): Waiting[] {
  const now = performance.now()
  return group.filter((each) => {
    const late = now - each.since >= ms
    if (late) each.reject(why())
    return !late
  })
}

/**
 * Accepts events that arrive one by one. Those that arrive while statements are under way share the next one: a
 * statement for 64 events takes little longer than one for a single event. Nobody waits while there is room.
 *
 * What another transaction stands in the way of leaves the others alone. An event for a locked webhook waits outside
 * (behind a door, with all others for the same webhooks) and one of them asks every 100 ms, which waits for nothing. A
 * statement that waited in vain for anything else is done again event by event, in a lane that the others don't use.
 */
export function createAcceptor(deps: AppDeps) {
  const doors = new Map<string, Waiting[]>()
  const apartUntil = new Map<number, number>()
  let knocking = false
  let inside = 0

  const together = createLane({ atOnce: mostAtOnce, size: mostTogether, run: acceptGroup })
  const apart = createLane({ atOnce: mostApart, size: 1, run: acceptGroup })

  /** Returns those whose webhooks are locked. */
  async function accept(group: readonly Waiting[]): Promise<Waiting[]> {
    const results = await commitFitting(
      deps,
      group.map(({ event }) => event),
    )
    return group.filter((each, index) => {
      const result = results[index]!
      const locked = isLocked(result)
      if (!locked) each.resolve(result)
      return locked
    })
  }

  async function acceptGroup(group: readonly Waiting[]): Promise<void> {
    const left = inTime(group, turnMs, tooMany)
    try {
      if (left.length > 0) for (const each of await accept(left)) waitOutside(each)
    } catch (error) {
      refuse(left, error)
    }
  }

  /** One event that the database refuses must not be the others' undoing. */
  function refuse(group: readonly Waiting[], error: unknown): void {
    if (group.length > 1 && !isUnreachable(error)) return apart.add(group)
    for (const each of group) {
      if (error instanceof AppError && error.code === 'unavailable') {
        apartUntil.set(each.event.siteId, performance.now() + apartMs)
      }
      each.reject(error)
    }
  }

  function waitOutside(each: Waiting): void {
    const queue = doors.get(doorOf(each))
    if (queue) queue.push(each)
    else doors.set(doorOf(each), [each])
    if (knocking) return
    knocking = true
    setTimeout(knock, knockMs)
  }

  async function knock(): Promise<void> {
    const firsts: Waiting[] = []
    for (const [door, queue] of [...doors].slice(0, mostTogether)) {
      const [first, ...others] = inTime(queue, patienceMs, lockedError)
      // At the end, so that all doors have their turn.
      doors.delete(door)
      if (!first) continue
      doors.set(door, others)
      firsts.push(first)
    }
    let stuck: Waiting[] = []
    try {
      if (firsts.length > 0) stuck = await accept(firsts)
    } catch (error) {
      refuse(firsts, error)
    }
    for (const first of firsts) {
      const queue = doors.get(doorOf(first))!
      if (stuck.includes(first)) queue.unshift(first)
      else {
        doors.delete(doorOf(first))
        together.add(queue)
      }
    }
    knocking = doors.size > 0
    if (knocking) setTimeout(knock, knockMs)
  }

  function enter(each: Waiting): void {
    const until = apartUntil.get(each.event.siteId)
    if (until !== undefined && until < performance.now()) apartUntil.delete(each.event.siteId)
    if (doors.has(doorOf(each))) waitOutside(each)
    else if (apartUntil.has(each.event.siteId)) apart.add([each])
    else together.add([each])
  }

  /** @throws AppError that says why it was not accepted */
  return async function acceptOne(event: NewEvent) {
    if (inside >= mostInside) throw tooMany()
    inside++
    try {
      const accepted = await new Promise<AcceptedEvent | AppError>((resolve, reject) =>
        enter({ event, since: performance.now(), resolve, reject }),
      )
      if (accepted instanceof AppError) throw accepted
      return demand(accepted)
    } finally {
      inside--
    }
  }
}

const tooMany = () => new AppError('unavailable', 'More events arrive than the database takes: ask again shortly')
