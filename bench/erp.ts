import { sql } from 'drizzle-orm'
import { createDatabase } from '../src/db/client.ts'
import { websiteSites } from '../src/db/schema/sites.ts'
import { migrateAll } from '../src/resources.ts'
import { startRedis } from '../test/fixtures/redis.ts'
import { noteRows, touchedRows } from '../test/fixtures/row-versions.ts'
import { cloneDatabase, startPostgres } from '../test/fixtures/services.ts'
import { bareUpserts, rowByRow } from './erp-bare.ts'
import { startBenchErp, type BenchErp } from './erp-peer.ts'
import { pause, perSecond } from './measure.ts'
import { startProduct } from './product.ts'

const products = 100_000
const warmUp = 3_000
/** Row by row, all of them would take minutes. */
const sample = 3_000

type Product = Awaited<ReturnType<typeof startProduct>>

/** A site of an ERP that lets itself be asked as often as anyone likes: its limits aren't what is measured. */
async function makeErpSite({ db }: Product, erp: BenchErp): Promise<number> {
  const schedule = { products: 'off', inventory: 'off', prices: 'off' }
  const settings = { erp: { url: erp.url, requestsPerSecond: 1_000, schedule } }
  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'bench', domain: `${crypto.randomUUID()}.example`, settings })
    .returning({ id: websiteSites.id })
  return site!.id
}

/** From asking over HTTP to the end of the run; the instant it began at. */
async function syncAll({ client }: Product, siteId: number): Promise<number> {
  const began = performance.now()
  const { jobId } = await client.enqueue('sync-products', { siteId, mode: 'full' })
  for (;;) {
    const { state, failedReason } = await client.getJob('sync-products', jobId)
    if (state === 'completed') return began
    if (state === 'failed') throw new Error(`the sync failed: ${failedReason}`)
    await pause(100)
  }
}

function watchRss() {
  const rssMb = () => process.memoryUsage.rss() / 1_048_576
  const firstMb = rssMb()
  let mostMb = firstMb
  const timer = setInterval(() => {
    mostMb = Math.max(mostMb, rssMb())
  }, 20)
  return () => {
    clearInterval(timer)
    return Math.round(mostMb - firstMb)
  }
}

async function ours(databaseUrl: string, redisUrl: string) {
  const [small, large] = [await startBenchErp(warmUp), await startBenchErp(products)]
  const product = await startProduct({ databaseUrl, redisUrl })
  try {
    await syncAll(product, await makeErpSite(product, small))
    const siteId = await makeErpSite(product, large)
    const grownMb = watchRss()
    const oursPerS = perSecond(products, await syncAll(product, siteId))
    const calls = await large.requests()
    await noteRows(product.db)
    const unchangedPerS = perSecond(products, await syncAll(product, siteId))
    const rssGrowthMb = grownMb()
    const { rows } = await product.db.execute(
      sql`SELECT count(*)::int AS n FROM website_products WHERE site_id = ${siteId} AND status = 'active'`,
    )
    // Not lost on the way, which would make the rest look fast.
    if (rows[0]?.n !== products) throw new Error(`${String(rows[0]?.n)} of ${products} products are there`)
    return {
      oursPerS,
      unchangedPerS,
      rewrittenWhenUnchanged: (await touchedRows(product.db)).rows,
      rssGrowthMb,
      erpCallsPer1000: Number(((calls * 1_000) / products).toFixed(2)),
    }
  } finally {
    await product.stop()
    await large.close()
    await small.close()
  }
}

/** Products per second from an ERP into the shop, next to the bare upsert of the same rows in sets, and row by row. */
export async function benchErp(): Promise<Record<string, number>> {
  const postgres = await startPostgres()
  const redis = await startRedis()
  const clones = []
  try {
    for (let n = 0; n < 3; n++) {
      const clone = await cloneDatabase(postgres.url, 'empty')
      clones.push(clone)
      await migrateAll(clone.url)
    }
    const urls = clones.map(({ url }) => url)
    const mine = await ours(urls[0]!, redis.url)
    const measure = async (url: string, work: typeof bareUpserts, count: number) => {
      const { db, close } = createDatabase({ url })
      try {
        await db.execute(sql`CHECKPOINT`)
        return await work(db, count)
      } finally {
        await close()
      }
    }
    const limitPerS = await measure(urls[1]!, bareUpserts, products)
    const naivePerS = await measure(urls[2]!, rowByRow, sample)
    const { oursPerS, unchangedPerS, rewrittenWhenUnchanged, rssGrowthMb, erpCallsPer1000 } = mine
    return {
      products,
      oursPerS,
      limitPerS,
      naivePerS,
      ratioLimit: Number((oursPerS / limitPerS).toFixed(2)),
      ratioNaive: Number((oursPerS / naivePerS).toFixed(1)),
      unchangedPerS,
      rewrittenWhenUnchanged,
      rssGrowthMb,
      erpCallsPer1000,
    }
  } finally {
    for (const clone of clones) await clone.drop()
    await redis.stop()
    await postgres.stop()
  }
}
