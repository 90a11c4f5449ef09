import { transact, type Db } from '../db/client.ts'
import { acceptEvents } from '../db/queries/events.ts'
import { isWanted, nextRipeMs, takeChanges } from '../db/queries/sync/changes-taken.ts'
import { AppError } from '../errors.ts'
import type { AnnounceProductsPayload } from '../queues/announce-products.ts'
import type { Processor } from './contract.ts'

export interface AnnounceProductsDeps {
  db: Db
}

/** Events made in one transaction. */
const setSize = 500
/** Transactions of one run; then others have their turn. */
const mostSets = 200
const event = 'product.updated'
/** How soon it is tried again while someone has locked a webhook it is for, ms. */
const lockedMs = 1_000

/** Takes the next changes of a site and makes their events, all or nothing: each change is told of once. */
function announceSet(db: Db, siteId: number): Promise<{ products: number; events: number }> {
  return transact(db, async (tx) => {
    const { products, changes } = await takeChanges(tx, siteId, setSize)
    // Without a receiver an event would be kept for nobody.
    if (changes.length === 0 || !(await isWanted(tx, siteId, event))) return { products, events: 0 }
    const accepted = await acceptEvents(
      tx,
      changes.map((data) => ({ siteId, event, data })),
      { rung: false, wait: false },
    )
    if (accepted.some(({ outcome }) => outcome === 'locked')) throw new AppError('unavailable', 'a webhook is locked')
    return { products, events: accepted.filter(({ outcome }) => outcome === 'accepted').length }
  })
}

/** Makes one `product.updated` of all that changed about a product within moments. */
export const announceProductsProcessor: Processor<AnnounceProductsPayload, AnnounceProductsDeps> = {
  async process({ siteId }, { db }, { signal, progress }) {
    let events = 0
    for (let sets = 0; sets < mostSets; sets++) {
      if (signal.aborted) return { kind: 'retry', error: 'stopped on the way; it goes on from where it was' }
      try {
        const made = await announceSet(db, siteId)
        events += made.events
        if (made.products === 0) {
          const inMs = await nextRipeMs(db, siteId)
          return inMs === null ? { kind: 'done', result: { events } } : { kind: 'postponed', inMs }
        }
      } catch (error) {
        if (error instanceof AppError && error.code === 'unavailable') return { kind: 'postponed', inMs: lockedMs }
        throw error
      }
      progress({ events })
    }
    return { kind: 'postponed', inMs: 0 }
  },
}
