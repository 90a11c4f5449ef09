import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RedisServer } from '../fixtures/redis.ts'
import { demand, percentile, until } from './judge.ts'
import { readiness, type Product } from './product.ts'
import { allDelivered, openShop, patientSchedule, sendEvent } from './shop.ts'
import { inWorld, type Scenario, type World } from './world.ts'

const perPhase = 50

const mostMs = 100

/** Accepts events one by one; returns how long the slowest took. */
async function acceptFifty(product: Product, siteId: number, prefix: string): Promise<number> {
  const times: number[] = []
  for (let n = 1; n <= perPhase; n++) {
    const { status, ms } = await sendEvent(product, siteId, `${prefix}_${n}`)
    demand(status === 202, `${prefix}: an event got ${status}`)
    times.push(ms)
  }
  return percentile(times, 1)
}

async function isDegraded(product: Product) {
  const { httpStatus, status, checks } = await readiness(product)
  demand(
    httpStatus === 200 && status === 'degraded' && checks['queue'] === 'down',
    `/readyz: ${httpStatus} ${status} ${JSON.stringify(checks)}`,
  )
}

/** Stops a server in its tracks: its connections stay, and nothing answers. */
async function freeze(redis: RedisServer, world: World) {
  const pid = Number(await readFile(join(redis.dir, 'redis.pid'), 'utf8'))
  const thaw = async () => void process.kill(pid, 'SIGCONT')
  process.kill(pid, 'SIGSTOP')
  world.defer(thaw)
  return thaw
}

export const redisDown: Scenario = {
  name: 'redis-down',
  title: 'Redis away, before the first connect, later and frozen: 202 within 100 ms; back: delivered without a restart',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const redis = await world.redis()
      await redis.kill()
      const receiver = await world.receiver()
      const siteId = await openShop(world, receiver.url)
      const began = performance.now()
      const product = await world.start('start', { REDIS_URL: redis.url, WEBHOOK_RETRY_SCHEDULE: patientSchedule })
      const bootMs = Math.round(performance.now() - began)
      for (let n = 1; n <= 10; n++) await sendEvent(product, siteId, `warm_${n}`)
      await isDegraded(product)
      const neverConnectedSlowestMs = await acceptFifty(product, siteId, 'never')
      demand(receiver.requests.length === 0, 'something was delivered without a queue')
      await redis.restart()
      const comesToDeliveredMs = await allDelivered(world, 10 + perPhase, 20_000)
      await until('/readyz is ok', 5_000, async () => (await readiness(product)).status === 'ok')

      const withRedisSlowestMs = await acceptFifty(product, siteId, 'with')
      const killed = redis.kill()
      const stoppedSlowestMs = await acceptFifty(product, siteId, 'stopped')
      await killed
      await isDegraded(product)
      await redis.restart()
      const backToDeliveredMs = await allDelivered(world, 10 + 3 * perPhase, 30_000)

      const thaw = await freeze(redis, world)
      const frozenSlowestMs = await acceptFifty(product, siteId, 'frozen')
      await thaw()
      const thawedToDeliveredMs = await allDelivered(world, 10 + 4 * perPhase, 30_000)
      // A busy machine is slow with Redis too; beside other tests it is busier still, but waiting for Redis takes seconds.
      const limitMs = Math.max(mostMs * (setting.small ? 10 : 1), 2 * withRedisSlowestMs)
      const slowestMs = Math.max(neverConnectedSlowestMs, stoppedSlowestMs, frozenSlowestMs)
      demand(slowestMs <= limitMs, `202 took ${slowestMs} ms without Redis, ${withRedisSlowestMs} ms with it`)
      return {
        bootMs,
        withRedisSlowestMs,
        neverConnectedSlowestMs,
        comesToDeliveredMs,
        stoppedSlowestMs,
        backToDeliveredMs,
        frozenSlowestMs,
        thawedToDeliveredMs,
        extraPosts: receiver.requests.length - 10 - 4 * perPhase,
      }
    }),
}
