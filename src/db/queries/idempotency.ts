import { and, eq, sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import { transact, type Db, type Tx } from '../client.ts'
import { idempotencyKeys } from '../schema/worker.ts'

/** A request that carried an `Idempotency-Key`. */
export interface IdempotentRequest {
  /** Name of the API key that sent it: keys of two callers never meet. */
  principal: string
  key: string
  /** Tells the request from another one under the same key. */
  requestHash: string
}

export interface StoredAnswer<Response> {
  replayed: boolean
  status: number
  response: Response
}

/**
 * Answers a request once per key and 24 hours: `make` runs in the transaction that stores its answer, and whoever asks
 * at the same moment waits for it. An error stores nothing, so the caller may ask again.
 * @throws AppError `invalid` when the key came with another request before
 */
export function answerOnce<Response extends Record<string, unknown>>(
  db: Db,
  request: IdempotentRequest,
  make: (tx: Tx) => Promise<{ status: number; response: Response }>,
): Promise<StoredAnswer<Response>> {
  return transact(db, async (tx) => {
    // Primary key: the insert waits for a twin that is under way. A stale row is taken over.
    const claimed = await tx
      .insert(idempotencyKeys)
      .values({ ...request, status: 0, response: {} })
      .onConflictDoUpdate({
        target: [idempotencyKeys.principal, idempotencyKeys.key],
        set: { requestHash: request.requestHash, status: 0, response: {}, createdAt: sql`now()` },
        setWhere: sql`${idempotencyKeys.createdAt} < now() - interval '24 hours'`,
      })
      .returning({ key: idempotencyKeys.key })
    const row = and(eq(idempotencyKeys.principal, request.principal), eq(idempotencyKeys.key, request.key))
    if (claimed.length === 0) {
      const [stored] = await tx.select().from(idempotencyKeys).where(row)
      if (!stored) throw new AppError('unavailable', 'The key is just being forgotten: ask again')
      if (stored.requestHash !== request.requestHash) {
        throw new AppError('invalid', 'This key came with another request before: use a new key for a new request', {
          field: 'Idempotency-Key',
        })
      }
      return { replayed: true, status: stored.status, response: stored.response as Response }
    }
    const answer = await make(tx)
    await tx.update(idempotencyKeys).set(answer).where(row)
    return { replayed: false, ...answer }
  })
}
