import { createHmac } from 'node:crypto'
import { Queue, Worker } from 'bullmq'
import { sql } from 'drizzle-orm'
import { Redis } from 'ioredis'
import { Agent, fetch, request } from 'undici'
import { createDatabase, type Db } from '../src/db/client.ts'
import { acceptEvents } from '../src/db/queries/events.ts'
import { migrateAll } from '../src/resources.ts'
import { cloneDatabase, startPostgres } from '../test/fixtures/services.ts'
import { startRedis } from '../test/fixtures/redis.ts'
import { pause, percentile, perSecond, steadily } from './measure.ts'
import { makeSite, startProduct } from './product.ts'
import { startBenchReceivers, type BenchReceivers } from './receiver.ts'

const count = 6_000
const concurrency = 100
const data = { orderNumber: 'WEB-1001', total: '49.90', lines: [{ sku: 'A-1', quantity: 2 }] }

/** Waits until nothing is owed any more; asked so that the question takes nothing from what is measured. */
async function untilDone(db: Db) {
  for (;;) {
    // work_owed_rung, work_owed_unrung and work_parked: a probe each.
    const { rows } = await db.execute(
      sql`SELECT EXISTS (SELECT FROM website_worker.work WHERE state = 'owed' AND rung_at IS NOT NULL)
              OR EXISTS (SELECT FROM website_worker.work WHERE state = 'owed' AND rung_at IS NULL AND lane IS NULL)
              OR EXISTS (SELECT FROM website_worker.work WHERE state = 'owed' AND rung_at IS NULL AND lane IS NOT NULL)
                 AS more`,
    )
    if (rows[0]?.more === false) return
    await pause(20)
  }
}

/** Ledger rows that say so. */
async function countDelivered(db: Db): Promise<number> {
  const { rows } = await db.execute(
    sql`SELECT count(*)::int AS n FROM website_webhook_deliveries WHERE delivered_at IS NOT NULL`,
  )
  return Number(rows[0]?.n)
}

/** Ours, from accept over the HTTP API to the ledger row. */
async function ours(databaseUrl: string, redisUrl: string, receiver: BenchReceivers) {
  const env = { WEBHOOK_CONCURRENCY: String(concurrency) }
  const product = await startProduct({ databaseUrl, redisUrl, env })
  const { db, client } = product
  try {
    const siteId = await makeSite(db, receiver.urls[0]!)
    const emit = async (events: number) => {
      for (let sent = 0; sent < events; sent += 500) {
        await client.emitEvents(Array.from({ length: 500 }, () => ({ siteId, event: 'order.created' as const, data })))
      }
    }
    await emit(500)
    await untilDone(db)
    await receiver.report()

    const began = performance.now()
    await emit(count)
    await untilDone(db)
    const oursPerS = perSecond(count, began)
    const { total, distinct } = await receiver.report()

    await steadily(2_000, 5, (n) =>
      client.emitEvent({ siteId, event: 'order.created', id: `t${Date.now()}_${n}`, data }),
    )
    await untilDone(db)
    const { latencies } = await receiver.report()
    return {
      oursPerS,
      lost: Math.max(count - distinct, count + 2_500 - (await countDelivered(db))),
      extra: total - distinct,
      steadyP50Ms: percentile(latencies, 0.5),
      steadyP95Ms: percentile(latencies, 0.95),
      steadyP99Ms: percentile(latencies, 0.99),
    }
  } finally {
    await product.stop()
  }
}

/** The same rings through a BullMQ worker that does nothing. */
async function noop(redisUrl: string): Promise<number> {
  const connection = new Redis(redisUrl, { maxRetriesPerRequest: null })
  const queue = new Queue('noop', { connection })
  const began = performance.now()
  let done = 0
  const worker = new Worker('noop', async () => {}, { connection, concurrency, removeOnComplete: { count: 1_000 } })
  const finished = new Promise<void>((resolve) => worker.on('completed', () => ++done === count && resolve()))
  for (let sent = 0; sent < count; sent += 500) {
    await queue.addBulk(
      Array.from({ length: 500 }, (_value, n) => ({ name: 'ring', data: { workId: sent + n, generation: 1 } })),
    )
  }
  await finished
  const rate = perSecond(count, began)
  await worker.close()
  await queue.close()
  connection.disconnect()
  return rate
}

/** The processor most people write: a select, a fetch, an insert. */
async function naive(databaseUrl: string, redisUrl: string, receiver: BenchReceivers): Promise<number> {
  const { db, close } = createDatabase({ url: databaseUrl, max: 20 })
  const siteId = await makeSite(db, receiver.urls[0]!)
  const events = Array.from({ length: count }, () => ({ siteId, event: 'order.created' as const, data }))
  const ids: string[] = []
  for (let from = 0; from < count; from += 1_000) {
    const accepted = await acceptEvents(db, events.slice(from, from + 1_000), { rung: false })
    ids.push(...accepted.map((event) => event.eventId))
  }
  await db.execute(sql`DELETE FROM website_webhook_deliveries`)
  const connection = new Redis(redisUrl, { maxRetriesPerRequest: null })
  const queue = new Queue('naive', { connection })
  const began = performance.now()
  let done = 0
  const worker = new Worker<{ siteId: number; id: string }>(
    'naive',
    async (job) => {
      const { rows } = await db.execute(
        sql`SELECT h.id, h.target_url, h.secret, e.body FROM website_worker.events e
            JOIN website_webhooks h ON h.site_id = e.site_id AND h.event = e.event
            WHERE e.site_id = ${job.data.siteId} AND e.id = ${job.data.id}`,
      )
      for (const row of rows) {
        const at = Math.floor(Date.now() / 1_000)
        const signature = createHmac('sha256', Buffer.from(String(row.secret).slice(6), 'base64'))
          .update(`${job.data.id}.${at}.${row.body}`)
          .digest('base64')
        const response = await fetch(String(row.target_url), {
          method: 'POST',
          headers: {
            'content-type': 'application/json',
            'webhook-id': job.data.id,
            'webhook-timestamp': String(at),
            'webhook-signature': `v1,${signature}`,
          },
          body: String(row.body),
          signal: AbortSignal.timeout(15_000),
        })
        const text = await response.text()
        await db.execute(
          sql`INSERT INTO website_webhook_deliveries (webhook_id, event_id, status_code, response_body, attempts, delivered_at)
              VALUES (${row.id}, ${job.data.id}, ${response.status}, ${text}, 1, now())`,
        )
      }
    },
    { connection, concurrency, removeOnComplete: { count: 1_000 } },
  )
  const finished = new Promise<void>((resolve) => worker.on('completed', () => ++done === count && resolve()))
  for (let sent = 0; sent < count; sent += 500) {
    await queue.addBulk(
      ids
        .slice(sent, sent + 500)
        .map((id) => ({ name: 'deliver', data: { siteId, id }, opts: { attempts: 10, backoff: 5_000 } })),
    )
  }
  await finished
  const rate = perSecond(count, began)
  await worker.close()
  await queue.close()
  connection.disconnect()
  await close()
  return rate
}

/** Nothing but signed posts over keep-alive connections. */
async function undici(receiver: BenchReceivers): Promise<number> {
  const dispatcher = new Agent({ connections: concurrency })
  const body = JSON.stringify({ type: 'order.created', data })
  const began = performance.now()
  let next = 0
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (next++ < count) {
        const answer = await request(receiver.urls[0]!, {
          method: 'POST',
          body,
          headers: { 'content-type': 'application/json' },
          dispatcher,
        })
        await answer.body.dump()
      }
    }),
  )
  const rate = perSecond(count, began)
  await dispatcher.close()
  return rate
}

/** Deliveries per second next to a worker that does nothing, to the usual processor, and to bare posts. */
export async function benchWebhooks(): Promise<Record<string, number>> {
  const postgres = await startPostgres()
  const redis = await startRedis()
  const receiver = await startBenchReceivers()
  const clones = [await cloneDatabase(postgres.url, 'empty'), await cloneDatabase(postgres.url, 'empty')] as const
  try {
    for (const clone of clones) await migrateAll(clone.url)
    const naivePerS = await naive(clones[1].url, redis.url, receiver)
    const noopPerS = await noop(redis.url)
    await receiver.report()
    const mine = await ours(clones[0].url, redis.url, receiver)
    const rssMb = Math.round(process.memoryUsage().rss / 1_048_576)
    const undiciPerS = await undici(receiver)
    return {
      ...mine,
      noopPerS,
      naivePerS,
      undiciPerS,
      ratioNoop: Number((mine.oursPerS / noopPerS).toFixed(2)),
      ratioNaive: Number((mine.oursPerS / naivePerS).toFixed(2)),
      rssMb,
    }
  } finally {
    for (const clone of clones) await clone.drop()
    await receiver.close()
    await redis.stop()
    await postgres.stop()
  }
}
