import { sql } from 'drizzle-orm'
import { Redis } from 'ioredis'
import type { QueueBackend } from '../../src/work/backend.ts'
import { openPostgresQueues } from '../../src/work/postgres-queues.ts'
import { openRedisQueues } from '../../src/work/redis-queues.ts'
import { demand, type Facts, until } from './judge.ts'
import { allDelivered, openShop, sendEvent, sendEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting, type World } from './world.ts'

const job = 'deliver-webhook'
const deliveries = 20

const garbage: unknown[] = [
  {},
  null,
  'text',
  [],
  42,
  { workId: 'x', generation: 1 },
  { workId: -1, generation: 1 },
  { workId: 0, generation: 0 },
  { workId: Number.MAX_SAFE_INTEGER, generation: 1 },
  { workId: 1.5, generation: 1 },
  { workId: 1, generation: 2 ** 40 },
  { workId: { $ne: null }, generation: [] },
  { deep: 'x'.repeat(100_000) },
]

/** Puts what no process of ours would into the queue; returns how many rings. */
async function pollute(world: World, backend: QueueBackend): Promise<number> {
  const queue = backend.queue(job)
  const { rows } = await world.db.execute(sql`SELECT id, generation FROM website_worker.work WHERE job = ${job}`)
  const stale = rows.flatMap(({ id, generation }) => [
    { workId: Number(id), generation: Number(generation) },
    { workId: Number(id), generation: Number(generation) + 1 },
    { workId: Number(id), generation: 0 },
  ])
  const rings = [...garbage, ...stale]
  await queue.addBulk(
    rings.map((data, n) => ({ name: `garbage ${n}`, data: data as never, opts: { jobId: `g-${n}` } })),
  )
  return rings.length
}

async function polluteRedis(url: string) {
  const redis = new Redis(url)
  try {
    const prefix = `{website-worker}:${job}`
    await redis.lpush(`${prefix}:wait`, 'no-such-ring', '', '\u0000')
    await redis.zadd(`${prefix}:delayed`, 0, 'no-such-delayed-ring')
    await redis.set('{website-worker}:unknown', 'value')
    await redis.hset('{website-worker}:no-such-queue:meta', 'paused', '1')
    await redis.hset(`${prefix}:999-1`, 'data', '{not json', 'name', 'x')
    await redis.lpush(`${prefix}:wait`, '999-1')
    await redis.hset('{website-worker}:mark', 'counter', 'not a number')
  } finally {
    redis.disconnect()
  }
}

function unmoved(setting: Setting, kind: 'redis' | 'postgres'): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const receiver = await world.receiver()
    const siteId = await openShop(world, receiver.url)
    const redis = kind === 'redis' ? await world.redis() : undefined
    const product = await world.start('start', redis ? { REDIS_URL: redis.url } : {})
    await sendEvents(product, siteId, 'before_', deliveries)
    await allDelivered(world, deliveries, 20_000)
    const backend = redis
      ? await openRedisQueues({ url: redis.url, prefix: 'website-worker' })
      : openPostgresQueues({ url: world.databaseUrl, workers: 0 })
    let rings = 0
    try {
      rings = await pollute(world, backend)
      const queue = backend.queue(job)
      await until('the garbage is worked off', 20_000, async () => {
        const { waiting, active } = await queue.getJobCounts('waiting', 'active')
        return waiting === 0 && active === 0
      })
    } finally {
      await backend.close()
    }
    if (redis) await polluteRedis(redis.url)
    await sendEvents(product, siteId, 'after_', deliveries)
    const afterMs = await allDelivered(world, 2 * deliveries, 20_000)
    const { ms } = await sendEvent(product, siteId, 'last')
    await allDelivered(world, 2 * deliveries + 1, 10_000)
    demand(product.isRunning(), 'the process ended')
    const extraPosts = receiver.requests.length - 2 * deliveries - 1
    demand(extraPosts === 0, `${extraPosts} deliveries were made again`)
    return { rings, afterMs, lastAcceptMs: Math.round(ms), extraPosts }
  })
}

export const garbageInTheQueue: Scenario = {
  name: 'garbage',
  title: 'rings that are no rings, old rings, strange keys: no effect and no crash',
  async run(setting) {
    const facts: Facts = {}
    for (const kind of setting.small ? (['redis'] as const) : (['redis', 'postgres'] as const)) {
      for (const [name, value] of Object.entries(await unmoved(setting, kind))) facts[`${kind}.${name}`] = value
    }
    return facts
  },
}
