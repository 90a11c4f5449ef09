import { createHash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { AppError } from '../../../errors.ts'
import type { SyncType } from '../../../erp.ts'
import { syncJobs } from '../../../queues/sync-job.ts'
import { transact, type Db, type Tx } from '../../client.ts'
import { enqueueItem, type EnqueuedItem } from '../enqueue.ts'
import { findWorkItem, type WorkItem } from '../jobs.ts'
import { addAsks } from './asks.ts'
import { sitesOfKey, skusOfErpIds } from './sites.ts'

/** What an ERP says has changed. */
export interface ErpPush {
  siteId?: number | undefined
  /** What the ERP calls the site. */
  siteKey?: string | undefined
  type: SyncType
  skus?: string[] | undefined
  /** The ERP's product ids. */
  ids?: string[] | undefined
}

export type AcceptedPush =
  | { kind: 'accepted'; item: EnqueuedItem }
  /** It was accepted before; `item` is undefined once that is no longer kept. */
  | { kind: 'replayed'; job: string; workId: number; item: WorkItem | undefined }

/**
 * Accepts a push: what it names is asked for by a run that is owed, together with what other pushes name until that
 * begins. Something the shop doesn't know, or nothing, is a run over all that changed. The same push again has no effect.
 * @throws AppError `invalid` for an unknown site; `conflict` for another push under an id that was used
 */
export function acceptPush(db: Db, id: string, push: ErpPush, options: { rung: boolean }): Promise<AcceptedPush> {
  const { type } = push
  const job = syncJobs[type]
  const hash = createHash('sha256').update(JSON.stringify(push)).digest('hex')
  return transact(db, async (tx) => {
    // erp_pushes_pkey. Whoever sends the same at the same moment waits here for the first to be committed.
    const { rowCount } = await tx.execute(
      sql`INSERT INTO website_worker.erp_pushes (id, hash, job, work_id) VALUES (${id}, ${hash}, ${job}, 0) ON CONFLICT DO NOTHING`,
    )
    if (rowCount === 0) return replay(tx, id, hash)
    const siteId = await siteOf(tx, push)
    const skus = await namedSkus(tx, siteId, push)
    if (skus) await addAsks(tx, siteId, type, skus)
    const payload = skus ? { siteId, asked: true } : { siteId }
    const item = await enqueueItem(tx, job, payload, { rung: options.rung, trigger: 'event' })
    // erp_pushes_pkey.
    await tx.execute(sql`UPDATE website_worker.erp_pushes SET work_id = ${item.workId} WHERE id = ${id}`)
    return { kind: 'accepted', item }
  })
}

async function replay(tx: Tx, id: string, hash: string): Promise<AcceptedPush> {
  // erp_pushes_pkey.
  const { rows } = await tx.execute(
    sql`SELECT hash, job, work_id AS "workId" FROM website_worker.erp_pushes WHERE id = ${id}`,
  )
  const known = rows[0] as { hash: string; job: string; workId: string } | undefined
  if (known?.hash !== hash)
    throw new AppError('conflict', 'Another message was sent under this webhook-id', { field: 'webhook-id' })
  const workId = Number(known.workId)
  return { kind: 'replayed', job: known.job, workId, item: await findWorkItem(tx, known.job, workId) }
}

async function siteOf(tx: Tx, { siteId, siteKey }: ErpPush): Promise<number> {
  if (siteId !== undefined) return siteId
  const found = await sitesOfKey(tx, siteKey ?? '')
  const why = found.length === 0 ? 'There is no site of that key' : 'Several sites have that key: send siteId'
  if (found[0] === undefined || found.length > 1) throw new AppError('invalid', why, { field: 'siteKey' })
  return found[0]
}

/** The SKUs that a push is about; undefined where it isn't about some that are known. */
async function namedSkus(tx: Tx, siteId: number, { type, skus, ids }: ErpPush): Promise<string[] | undefined> {
  if (!ids?.length) return skus?.length ? [...new Set(skus)] : undefined
  const known = await skusOfErpIds(tx, siteId, [...new Set(ids)], type !== 'product')
  if (known.unknown > 0) return undefined
  return [...new Set([...(skus ?? []), ...known.skus])]
}
