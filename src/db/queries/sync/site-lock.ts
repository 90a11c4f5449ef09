import { sql } from 'drizzle-orm'
import { transact, type Db, type Tx } from '../../client.ts'
import { pgErrorOf } from '../pg-error.ts'
import { fence, type SyncRun } from './run.ts'

/** How long one transaction stands in line: then it lets go of its run's row, so that the run's lease can be renewed. */
const turn = '2s'

const lock = (siteId: number, shared = false) =>
  sql`${sql.raw(shared ? 'pg_advisory_xact_lock_shared' : 'pg_advisory_xact_lock')}(
    hashtextextended('website_worker.catalog', ${siteId}))`

/**
 * Waits until no other transaction applies to the catalog of the site, and keeps them out until this one ends. Without
 * it the stock of a SKU and the variant that it belongs to could come at the same moment and never see each other.
 */
export async function lockCatalog(tx: Tx, { siteId }: Pick<SyncRun, 'siteId'>): Promise<void> {
  await tx.execute(sql`SELECT ${lock(siteId)}`)
}

/**
 * Runs `work` in a transaction that only the run's holder may make, and that no other one applies beside. Waits for its
 * turn as long as that takes: another stream of the site may have much to write. `shared`: others of the run that are
 * shared, too, may apply at the same time.
 */
export async function inCatalog<T>(
  db: Db,
  run: SyncRun,
  signal: AbortSignal,
  work: (tx: Tx) => Promise<T>,
  { shared = false }: { shared?: boolean } = {},
): Promise<T> {
  for (;;) {
    signal.throwIfAborted()
    let isOurTurn = false
    try {
      return await transact(db, async (tx) => {
        await fence(tx, run, { shared })
        // Written in this order: the columns of a row are worked out from left to right.
        await tx.execute(
          sql`SELECT set_config('lock_timeout', ${turn}, true), ${lock(run.siteId, shared)}, set_config('lock_timeout', was.timeout, true)
              FROM (SELECT current_setting('lock_timeout') AS timeout OFFSET 0) was`,
        )
        isOurTurn = true
        return work(tx)
      })
    } catch (error) {
      if (isOurTurn || pgErrorOf(error)?.code !== lockNotAvailable) throw error
    }
  }
}

const lockNotAvailable = '55P03'
