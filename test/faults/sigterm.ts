import { demand, type Facts } from './judge.ts'
import { allDelivered, distinctIds, openShop, sendEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting } from './world.ts'

const total = 200
const mostMs = 25_000

function endGently(setting: Setting, backend: 'redis' | 'postgres'): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const receiver = await world.receiver(() => ({ status: 204, delayMs: 300 }))
    const siteId = await openShop(world, receiver.url)
    const env: Record<string, string> = { WEBHOOK_CONCURRENCY: '20' }
    if (backend === 'redis') env['REDIS_URL'] = (await world.redis()).url
    const first = await world.start('start', env)
    await sendEvents(first, siteId, 'slow_', total)
    await receiver.waitFor(70)
    const { code, ms: stopMs } = await first.stop()
    const sentBefore = receiver.requests.length
    demand(code === 0, `exit code ${code}`)
    demand(stopMs < mostMs, `it took ${stopMs} ms to end`)
    demand(sentBefore < total, 'nothing was left to do after the restart')
    await world.start('start', env)
    const restartedToDeliveredMs = await allDelivered(world, total, 40_000)
    demand(distinctIds(receiver) === total, `${distinctIds(receiver)} distinct ids`)
    const extraPosts = receiver.requests.length - total
    demand(extraPosts === 0, `${extraPosts} deliveries were made twice`)
    return { sentBefore, stopMs, restartedToDeliveredMs, extraPosts }
  })
}

export const sigterm: Scenario = {
  name: 'sigterm',
  title: 'SIGTERM in the middle of 200 slow deliveries: exit code 0 in time, none lost, none doubled',
  async run(setting) {
    const facts: Facts = {}
    for (const backend of setting.small ? (['redis'] as const) : (['redis', 'postgres'] as const)) {
      for (const [name, value] of Object.entries(await endGently(setting, backend))) facts[`${backend}.${name}`] = value
    }
    return facts
  },
}
