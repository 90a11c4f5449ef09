import { demand, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { allDelivered, openShop, sendEvents } from './shop.ts'
import { inWorld, type Scenario } from './world.ts'

/** It must end by itself, not with 0, and say why; ms. */
async function refuses(product: Product, words: RegExp): Promise<number> {
  const began = performance.now()
  let late: NodeJS.Timeout | undefined
  const timeout = new Promise<'late'>((resolve) => {
    late = setTimeout(resolve, 20_000, 'late')
  })
  const code = await Promise.race([product.ended, timeout]).finally(() => clearTimeout(late))
  const said = product.words() + product.log.map((line) => line.msg).join('\n')
  demand(code !== 'late', `it goes on, saying: ${said}`)
  demand(code !== 0 && code !== null, `exit code ${code}, saying: ${said}`)
  demand(words.test(said), `it said only: ${said}`)
  return Math.round(performance.now() - began)
}

export const secondRedis: Scenario = {
  name: 'second-redis',
  title: 'another Redis on the same database, and a Redis that evicts keys, are refused in clear words',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const [one, other] = await Promise.all([world.redis(), world.redis()])
      const receiver = await world.receiver()
      const siteId = await openShop(world, receiver.url)
      const product = await world.start('start', { REDIS_URL: one.url })
      const facts: Facts = {}
      const evicting = await world.redis(['--maxmemory', '64mb', '--maxmemory-policy', 'allkeys-lru'])
      await other.kill()
      const late = await world.start('api', { REDIS_URL: other.url })
      await other.restart()
      const waits = [
        refuses(world.spawn('worker', { REDIS_URL: other.url }), /different queue/),
        refuses(late, /different queue/),
        refuses(world.spawn('start', { REDIS_URL: evicting.url }), /maxmemory-policy is allkeys-lru/),
      ]
      if (!setting.small) {
        waits.push(
          refuses(world.spawn('start'), /different queue/),
          refuses(world.spawn('worker', { REDIS_URL: one.url, QUEUE_PREFIX: 'other' }), /different queue/),
        )
      }
      const [otherMs = 0, cameLaterMs = 0, evictingMs = 0, postgresMs, prefixMs] = await Promise.all(waits)
      Object.assign(facts, { otherMs, cameLaterMs, evictingMs })
      if (postgresMs !== undefined) facts['postgresMs'] = postgresMs
      if (prefixMs !== undefined) facts['prefixMs'] = prefixMs
      demand(product.isRunning(), 'the first process ended')
      await sendEvents(product, siteId, 'unharmed_', 20)
      facts['unharmedMs'] = await allDelivered(world, 20, 10_000)
      return facts
    }),
}
