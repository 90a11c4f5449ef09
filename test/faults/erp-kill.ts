import { sql } from 'drizzle-orm'
import pg from 'pg'
import type { Erp } from '../fixtures/erp.ts'
import { askSync, openErp, openErpSite, readRuns, sync, syncEnds } from './erp-shop.ts'
import { demandInLine } from './erp-compare.ts'
import { demand, until, type Facts } from './judge.ts'
import { inWorld, type Scenario, type Setting, type World } from './world.ts'

interface Size {
  products: number
  pageSize: number
  /** Within the first set that is written, by holding it up there; else between two. */
  inFirstSet: boolean
}

/** Holds up whoever writes products, until it is let go; says when someone is being held up. */
async function holdWriters(world: World) {
  const client = new pg.Client({ connectionString: world.databaseUrl, application_name: 'faults' })
  await client.connect()
  world.defer(() => client.end())
  await client.query('BEGIN')
  await client.query('LOCK TABLE website_products IN SHARE MODE')
  return {
    async held() {
      const { rows } = await world.db.execute(
        sql`SELECT FROM pg_locks WHERE relation = 'public.website_products'::regclass AND NOT granted`,
      )
      return rows.length > 0
    },
    letGo: async () => void (await client.query('COMMIT')),
  }
}

/** Never answers for one page, once. */
function hangOnce(erp: Erp, nth: number): () => boolean {
  let seen = 0
  erp.onRequest(() => (++seen === nth ? 'hang' : 'serve'))
  return () => seen >= nth
}

function demandAskedOnce(erp: Erp, name: string, pages: number, again: number): void {
  const times = [...erp.timesAsked()].flatMap(([page, n]) => (page.startsWith('products ') ? [n] : []))
  const twice = times.filter((n) => n > 1)
  demand(times.length === pages, `${name}: ${times.length} pages instead of ${pages}`)
  demand(
    twice.length === again && twice.every((n) => n === 2),
    `${name}: ${twice.length} pages were asked for again, ${Math.max(...times)} times at most`,
  )
}

/** Of two sites one is fetching and one is writing when the process that does both is killed. */
function kill(setting: Setting, { products, pageSize, inFirstSet }: Size): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const redis = await world.redis()
    // The page that hangs does so until the kill.
    const env = { REDIS_URL: redis.url, ERP_TIMEOUT_MS: '120000' }
    const api = await world.start('api', env)
    const victim = await world.start('worker', env)
    const [writing, fetching] = [await openErp(world, products), await openErp(world, products)]
    const writingSite = await openErpSite(world, { url: writing.url, pageSize })
    const fetchingSite = await openErpSite(world, { url: fetching.url, pageSize })
    const pages = Math.ceil(products / pageSize)
    const isHanging = hangOnce(fetching, Math.ceil(pages / 2))

    const writers = inFirstSet ? await holdWriters(world) : undefined
    const asked = [
      await askSync(api, 'sync-products', { siteId: fetchingSite }),
      await askSync(api, 'sync-products', { siteId: writingSite }),
    ]
    await until('one site is halfway fetched', 120_000, isHanging)
    let applied = 0
    await until('the other one is being written', 120_000, async () => {
      if (writers) return writers.held()
      applied = (await readRuns(world, writingSite))[0]?.appliedThrough ?? 0
      return applied > 0
    })
    await victim.kill()
    const killed = performance.now()
    const written = (await readRuns(world, writingSite))[0]!
    demand(written.state === 'running' && written.appliedThrough < products, 'it was over before the kill')
    await writers?.letGo()

    await world.start('worker', env)
    for (const each of asked) {
      const { state, failedReason } = await syncEnds(api, each, 300_000)
      demand(state === 'completed', `${each.jobId} ${state}: ${failedReason}`)
    }
    const endedMs = Math.round(performance.now() - killed)
    for (const siteId of [writingSite, fetchingSite]) {
      const runs = await readRuns(world, siteId)
      demand(runs.length === 1 && runs[0]!.state === 'done', `runs: ${JSON.stringify(runs)}`)
      await sync(api, 'sync-inventory', { siteId }, 300_000)
    }
    await demandInLine(world, writingSite, writing)
    await demandInLine(world, fetchingSite, fetching)
    demandAskedOnce(writing, 'the one being written', pages, 0)
    demandAskedOnce(fetching, 'the one being fetched', pages, 1)
    return { products, pages, appliedAtKill: applied, endedAfterKillMs: endedMs, askedAgain: 1 }
  })
}

export const erpKill: Scenario = {
  name: 'erp-kill',
  title:
    'kill -9 in the middle of fetching and of writing a site: both go on where they were, no page is asked for twice but the last',
  run: (setting) =>
    kill(
      setting,
      setting.small
        ? { products: 1_000, pageSize: 50, inFirstSet: true }
        : { products: 100_000, pageSize: 500, inFirstSet: false },
    ),
}
