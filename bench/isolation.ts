import { sql } from 'drizzle-orm'
import { migrateAll } from '../src/resources.ts'
import { cloneDatabase, startPostgres } from '../test/fixtures/services.ts'
import { startRedis } from '../test/fixtures/redis.ts'
import { pause, percentile, steadily } from './measure.ts'
import { makeSite, startProduct } from './product.ts'
import { startBenchReceivers } from './receiver.ts'

const endpoints = 50
const hanging = 10
const backlog = 20_000
/** 200 events a second for 20 s. */
const everyMs = 5
const count = 4_000
const data = { orderNumber: 'WEB-1001', total: '49.90', lines: [{ sku: 'A-1', quantity: 2 }] }

type Product = Awaited<ReturnType<typeof startProduct>>

async function waiting(product: Product, sites: readonly number[]): Promise<number> {
  const { rows } = await product.db.execute(
    sql`SELECT count(*)::int AS n FROM website_worker.work
        WHERE state = 'owed' AND site_id = ANY (${sql.param(sites)}::int[])`,
  )
  return Number(rows[0]?.n)
}

async function untilDelivered(product: Product, sites: readonly number[]): Promise<void> {
  while ((await waiting(product, sites)) > 0) await pause(20)
}

/** How long deliveries to healthy endpoints take while ten others hang with thousands waiting, next to when none does. */
export async function benchIsolation(): Promise<Record<string, number>> {
  const postgres = await startPostgres()
  const redis = await startRedis()
  const receivers = await startBenchReceivers(endpoints)
  const database = await cloneDatabase(postgres.url, 'empty')
  await migrateAll(database.url)
  const product = await startProduct({ databaseUrl: database.url, redisUrl: redis.url })
  try {
    const sites: number[] = []
    for (const url of receivers.urls) sites.push(await makeSite(product.db, url))
    const [ill, well] = [sites.slice(0, hanging), sites.slice(hanging)]
    const emit = (n: number) => {
      const siteId = sites[n % endpoints]!
      const id = ill.includes(siteId) ? `ill_${n}_${Date.now()}` : `t${Date.now()}_${n}`
      return product.client.emitEvent({ siteId, event: 'order.created', id, data })
    }

    // The same load first, so that both are measured on a warm process.
    await steadily(count / 2, everyMs, emit)
    await untilDelivered(product, well)
    await receivers.report()
    await steadily(count, everyMs, emit)
    await untilDelivered(product, well)
    const p95AloneMs = percentile((await receivers.report()).latencies, 0.95)

    receivers.hang(hanging)
    for (let sent = 0; sent < backlog; sent += 500) {
      const events = Array.from({ length: 500 }, (_, n) => ({
        siteId: ill[n % hanging]!,
        event: 'order.created' as const,
      }))
      await product.client.emitEvents(events.map((event) => ({ ...event, data })))
    }
    await receivers.report()
    await steadily(count, everyMs, emit)
    await untilDelivered(product, well)
    const { latencies } = await receivers.report()
    const p95WithHangingMs = percentile(latencies, 0.95)
    return {
      p95AloneMs,
      p95WithHangingMs,
      ratio: Number((p95WithHangingMs / p95AloneMs).toFixed(2)),
      backlog: await waiting(product, ill),
      // Not lost on the way, which would make the rest look fast.
      delivered: latencies.length,
      expected: (count * (endpoints - hanging)) / endpoints,
    }
  } finally {
    await product.stop()
    await database.drop()
    await receivers.close()
    await redis.stop()
    await postgres.stop()
  }
}
