import { demand } from './judge.ts'
import { allDelivered, distinctIds, openShop, patientSchedule, readEpoch, sendEvents } from './shop.ts'
import { inWorld, type Scenario } from './world.ts'

export const swappedRedis: Scenario = {
  name: 'swapped-redis',
  title: 'Redis replaced by an empty one, with work waiting and under way: nothing is lost',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const redis = await world.redis()
      let isUp = false
      const receiver = await world.receiver(() => (isUp ? { status: 204, delayMs: 200 } : { status: 503 }))
      const siteId = await openShop(world, receiver.url)
      const product = await world.start('start', {
        WEBHOOK_RETRY_SCHEDULE: patientSchedule,
        WEBHOOK_CONCURRENCY: '20',
        REDIS_URL: redis.url,
      })
      await sendEvents(product, siteId, 'waiting_', 150)
      await receiver.waitFor(150)
      isUp = true
      await sendEvents(product, siteId, 'running_', 150)
      await receiver.waitFor(200)
      await redis.restart({ empty: true })
      const swappedToDeliveredMs = await allDelivered(world, 300, 40_000)
      demand(distinctIds(receiver) === 300, `${distinctIds(receiver)} distinct ids`)
      const { alarms } = await readEpoch(world)
      demand(alarms === 1, `${alarms} alarms`)
      return { swappedToDeliveredMs, alarms }
    }),
}
