import { demand, until } from './judge.ts'
import { allDelivered, distinctIds, openShop, sendEvents } from './shop.ts'
import { inWorld, type Scenario } from './world.ts'

const warning = /made for one/

export const twoProcesses: Scenario = {
  name: 'two-processes',
  title: 'a second process on the queue in Postgres: a warning is logged, nothing is lost',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const perProcess = setting.small ? 100 : 250
      const receiver = await world.receiver(() => ({ status: 204, delayMs: 20 }))
      const siteId = await openShop(world, receiver.url)
      const first = await world.start('start')
      const second = await world.start('start')
      const warnedMs = await until('a warning', 10_000, () =>
        [...first.log, ...second.log].some((line) => line.level >= 40 && warning.test(line.msg)),
      )
      await Promise.all([
        sendEvents(first, siteId, 'first_', perProcess),
        sendEvents(second, siteId, 'second_', perProcess),
      ])
      const total = 2 * perProcess
      const deliveredMs = await allDelivered(world, total, 60_000)
      demand(distinctIds(receiver) === total, `${distinctIds(receiver)} distinct ids`)
      return { warnedMs, deliveredMs, extraPosts: receiver.requests.length - total }
    }),
}
