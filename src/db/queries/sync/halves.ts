import type { Tx } from '../../client.ts'
import { dataFaultOf } from './data-fault.ts'

/** One that the database refuses, and why. */
export interface Refused<T> {
  item: T
  fault: string
}

/**
 * Does some work on all items at once; where a constraint or a trigger of the shop is against it, on all that are left
 * without the ones it is against, which are found by halves. Returns these.
 */
export async function inHalves<T>(
  tx: Tx,
  items: readonly T[],
  work: (tx: Tx, items: readonly T[]) => Promise<unknown>,
): Promise<Refused<T>[]> {
  const [first] = items
  if (first === undefined) return []
  try {
    await tx.transaction((inner) => work(inner as Tx, items))
    return []
  } catch (error) {
    const fault = dataFaultOf(error)
    if (fault === undefined) throw error
    if (items.length === 1) return [{ item: first, fault }]
  }
  const middle = Math.ceil(items.length / 2)
  const refused = await inHalves(tx, items.slice(0, middle), work)
  return [...refused, ...(await inHalves(tx, items.slice(middle), work))]
}
