import { startCountingReceiver } from './counting-receiver.ts'
import { demand, until, type Facts } from './judge.ts'
import { watchMemory } from './rss.ts'
import { allDelivered, openShop, postEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting } from './world.ts'

const mostDriftMb = 50
const batch = 50
/** Enough waiting that the worker is never idle, little enough that the backlog isn't what is measured. */
const mostAhead = 500

/** About 20 kB, different for every order. */
function order(id: string): object {
  const lines = Array.from({ length: 117 }, (_, n) => ({
    sku: `${id}-${n}`,
    name: `Article ${(n * 7_919) % 1_000} of order ${id}, in its own colour and size`,
    quantity: (n % 9) + 1,
    price: `${(n * 37) % 500}.${((n * 13) % 90) + 10}`,
    note: `${n}`.repeat(20),
  }))
  return { orderNumber: id, lines }
}

/** Node would let garbage lie for as long as there is room: what grows now is kept by someone. */
const smallHeap = '--max-old-space-size=160 --max-semi-space-size=8'

/**
 * Memory of API and worker in one process while it delivers without a pause. The first deliveries only warm it up; then the median of the first tenth is held against that of the last.
 */
function deliver(setting: Setting, warmUp: number, measured: number): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const redis = await world.redis()
    const receiver = await startCountingReceiver()
    world.defer(receiver.close)
    const siteId = await openShop(world, receiver.url)
    const product = await world.start('start', { REDIS_URL: redis.url, NODE_OPTIONS: smallHeap })
    const total = warmUp + measured
    const memory = watchMemory(product.pid, () => receiver.count)
    world.defer(async () => memory.stop())

    const began = performance.now()
    for (let sent = 0; sent < total; sent += batch) {
      await until('deliveries keep up', 60_000, () => sent - receiver.count < mostAhead)
      const ids = Array.from({ length: batch }, (_, n) => `memory_${sent + n + 1}`)
      await postEvents(
        product,
        siteId,
        ids.map((id) => ({ id, data: order(id) })),
      )
    }
    await allDelivered(world, total, 60_000)
    const seconds = (performance.now() - began) / 1_000

    const tenth = measured / 10
    const firstMb = memory.medianMb(warmUp, warmUp + tenth)
    const lastMb = memory.medianMb(total - tenth, total)
    const driftMb = lastMb - firstMb
    demand(receiver.count === total, `${receiver.count} requests for ${total} deliveries`)
    demand(Math.abs(driftMb) <= mostDriftMb, `memory went from ${firstMb} MB to ${lastMb} MB`)
    return {
      deliveries: measured,
      firstMb,
      lastMb,
      driftMb,
      peakMb: memory.peakMb(),
      perS: Math.round(total / seconds),
    }
  })
}

export const memory: Scenario = {
  name: 'memory',
  title: 'the memory of a process stays within 50 MB over 50,000 deliveries of 20 kB',
  run: (setting) => (setting.small ? deliver(setting, 2_000, 2_000) : deliver(setting, 20_000, 50_000)),
}
