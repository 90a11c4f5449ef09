import type { AcceptedEvent, NewEvent } from '../db/queries/events.ts'
import { AppError } from '../errors.ts'
import { commitFitting, demand } from './accept.ts'
import type { AppDeps } from './deps.ts'
import { isUnreachable } from '../db/unreachable.ts'

/** Statements under way at a time, and events in each, at most. */
const mostAtOnce = 4
const mostTogether = 64

/**
 * Accepts events that arrive one by one. Those that arrive while statements are under way share the next one: a
 * statement for 64 events takes little longer than one for a single event. Nobody waits while there is room.
 */
export function createAcceptor(deps: AppDeps) {
  interface Waiting {
    event: NewEvent
    resolve(accepted: AcceptedEvent | AppError): void
    reject(error: unknown): void
  }
  let waiting: Waiting[] = []
  let underWay = 0
  let planned = false

  async function acceptTogether(group: readonly Waiting[]): Promise<void> {
    try {
      const accepted = await commitFitting(
        deps,
        group.map(({ event }) => event),
      )
      for (const [index, { resolve }] of group.entries()) resolve(accepted[index]!)
    } catch (error) {
      // One event that the database refuses must not be the others' undoing.
      if (group.length === 1 || isUnreachable(error)) for (const { reject } of group) reject(error)
      else await Promise.all(group.map((each) => acceptTogether([each])))
    }
  }

  function flush(): void {
    planned = false
    while (waiting.length > 0 && underWay < mostAtOnce) {
      const group = waiting.slice(0, mostTogether)
      waiting = waiting.slice(mostTogether)
      underWay++
      void acceptTogether(group).finally(() => {
        underWay--
        flush()
      })
    }
  }

  /** @throws AppError that says why it was not accepted */
  return async function acceptOne(event: NewEvent) {
    const accepted = await new Promise<AcceptedEvent | AppError>((resolve, reject) => {
      waiting.push({ event, resolve, reject })
      if (planned || underWay >= mostAtOnce) return
      planned = true
      setImmediate(flush)
    })
    if (accepted instanceof AppError) throw accepted
    return demand(accepted)
  }
}
