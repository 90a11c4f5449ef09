import { demand } from './judge.ts'
import { allDelivered, openShop, patientSchedule, posts, readLedger, sendEvents } from './shop.ts'
import { inWorld, type Scenario } from './world.ts'

const env = { WEBHOOK_RETRY_SCHEDULE: patientSchedule }

export const backendSwitch: Scenario = {
  name: 'backend-switch',
  title: 'work accepted on one queue and done on the other, from Postgres to Redis and back: all delivered',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const redis = await world.redis()
      let isUp = false
      const receiver = await world.receiver(() => (isUp ? { status: 204 } : 'reset'))
      const siteId = await openShop(world, receiver.url)
      const backends = { postgres: env, redis: { ...env, REDIS_URL: redis.url } }
      const measured: number[] = []
      let expected = 0
      for (const [from, to] of [
        ['postgres', 'redis'],
        ['redis', 'postgres'],
      ] as const) {
        isUp = false
        const first = await world.start('start', backends[from])
        await sendEvents(first, siteId, `${from}_`, 100)
        expected += 100
        await receiver.waitFor(1)
        const { code } = await first.stop()
        demand(code === 0, `SIGTERM on ${from}: exit code ${code}`)
        const { delivered } = await readLedger(world)
        demand(delivered === expected - 100, `${delivered} delivered while the receiver was down`)
        isUp = true
        receiver.requests.length = 0
        const second = await world.start('start', backends[to])
        measured.push(await allDelivered(world, expected, 30_000))
        const repeated = [...posts(receiver).values()].filter((times) => times > 1).length
        demand(repeated === 0, `${repeated} events came twice after the switch to ${to}`)
        await second.stop()
      }
      const [toRedisMs = 0, toPostgresMs = 0] = measured
      return { toRedisMs, toPostgresMs }
    }),
}
