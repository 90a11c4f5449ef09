import { sql } from 'drizzle-orm'
import { createClient, type Job } from '../../src/client/index.ts'
import { websiteSites } from '../../src/db/schema/sites.ts'
import { fillCatalogue } from '../fixtures/erp-catalogue.ts'
import { startErp, type Erp, type ErpOptions, type ErpRecord } from '../fixtures/erp.ts'
import { demand, until } from './judge.ts'
import type { Product } from './product.ts'
import { apiKey, type World } from './world.ts'

export type SyncJob = 'sync-products' | 'sync-inventory' | 'sync-prices'

export const syncJobs: readonly SyncJob[] = ['sync-products', 'sync-inventory', 'sync-prices']

/** A run that was asked for. */
export interface Asked {
  job: SyncJob
  jobId: string
}

/** An ERP that ends with the world, with a catalogue of `count` products. */
export async function openErp(
  world: World,
  count: number,
  options: ErpOptions & { change?: (n: number) => ErpRecord } = {},
): Promise<Erp> {
  const erp = await startErp(options)
  world.defer(erp.close)
  fillCatalogue(erp, count, options.change)
  return erp
}

/** A site that is synced only when someone asks for it, as fast as its ERP answers. */
export async function openErpSite(world: World, erp: Record<string, unknown>): Promise<number> {
  const schedule = { products: 'off', inventory: 'off', prices: 'off' }
  const settings = { erp: { requestsPerSecond: 1_000, schedule, ...erp } }
  const [site] = await world.db
    .insert(websiteSites)
    .values({ name: 'Shop', domain: `${crypto.randomUUID()}.example`, settings })
    .returning({ id: websiteSites.id })
  return site!.id
}

const clientOf = (api: Product) => createClient({ url: api.url, apiKey })

/** Asks for a run over HTTP. */
export async function askSync(api: Product, job: SyncJob, payload: Record<string, unknown>): Promise<Asked> {
  const { jobId } = await clientOf(api).enqueue(job, payload)
  return { job, jobId }
}

/** Looks at a run that was asked for. */
export const viewSync = (api: Product, { job, jobId }: Asked): Promise<Job> => clientOf(api).getJob(job, jobId)

const endings: readonly string[] = ['completed', 'failed', 'cancelled']

/** Waits until a run has ended in any way. */
export async function syncEnds(api: Product, asked: Asked, timeoutMs = 60_000): Promise<Job> {
  let job: Job | undefined
  await until(
    `${asked.job} ${asked.jobId} ends`,
    timeoutMs,
    async () => endings.includes((job = await viewSync(api, asked)).state),
    () => job,
  )
  return job!
}

/** Asks for a run and waits until it is done. */
export async function sync(
  api: Product,
  job: SyncJob,
  payload: Record<string, unknown>,
  timeoutMs?: number,
): Promise<Job> {
  const ended = await syncEnds(api, await askSync(api, job, payload), timeoutMs)
  demand(ended.state === 'completed', `${job} ended ${ended.state}: ${ended.failedReason}`)
  return ended
}

/** A run that left a row behind. */
export interface RunRow {
  id: number
  type: string
  mode: string
  state: string
  error: string | null
  counts: Record<string, number>
  appliedThrough: number
}

/** Runs of a site, oldest first. */
export async function readRuns(world: World, siteId: number): Promise<RunRow[]> {
  // sync_runs_site
  const { rows } = await world.db.execute(sql`
    SELECT id::int, type, mode, state, error, counts, applied_through AS "appliedThrough"
    FROM website_worker.sync_runs WHERE site_id = ${siteId} ORDER BY id`)
  return rows as unknown as RunRow[]
}

/** What lies in quarantine, as a shop's owner is shown it. */
export async function readQuarantine(api: Product, siteId: number) {
  const response = await fetch(`${api.url}/v1/sites/${siteId}/quarantine?limit=200`, {
    headers: { authorization: `Bearer ${apiKey}` },
  })
  const { items } = (await response.json()) as {
    items?: { erpId: string | null; sku: string | null; reason: string }[]
  }
  demand(response.status === 200 && items !== undefined, `the quarantine answered ${response.status}`)
  return items
}

/** What website_sync_logs says of failed runs of a site. */
export async function failureLogs(world: World, siteId: number): Promise<string[]> {
  // idx_website_sync_logs_site_id
  const { rows } = await world.db.execute(sql`
    SELECT error_message AS said FROM website_sync_logs
    WHERE site_id = ${siteId} AND entity_type = 'run' AND status = 'error' ORDER BY id`)
  return rows.map((row) => String(row.said))
}
