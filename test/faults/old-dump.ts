import { demand, type Facts, until } from './judge.ts'
import { allDelivered, distinctIds, openShop, patientSchedule, readEpoch, sendEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting } from './world.ts'

const env = { WEBHOOK_RETRY_SCHEDULE: patientSchedule }

/** A dump from before half of the work, restored while work is under way. */
function yesterdays(setting: Setting): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const redis = await world.redis()
    let isUp = true
    const receiver = await world.receiver(() => ({ status: isUp ? 204 : 503 }))
    const siteId = await openShop(world, receiver.url)
    const product = await world.start('start', { ...env, REDIS_URL: redis.url })
    await sendEvents(product, siteId, 'before_', 100)
    isUp = false
    await sendEvents(product, siteId, 'waiting_', 100)
    await receiver.waitFor(150)
    const dump = await redis.dump()
    const { counter } = await readEpoch(world)
    await sendEvents(product, siteId, 'after_', 100)
    await until('two ticks after the dump', 10_000, async () => (await readEpoch(world)).counter >= counter + 2)
    await redis.restore(dump)
    isUp = true
    const restoredToDeliveredMs = await allDelivered(world, 300, 40_000)
    demand(distinctIds(receiver) === 300, `${distinctIds(receiver)} distinct ids`)
    const { alarms } = await readEpoch(world)
    demand(alarms === 1, `${alarms} alarms`)
    return { restoredToDeliveredMs, alarms }
  })
}

/** A dump so young that the queue's counter hasn't moved since: only the sweep for lost rings can find what is missing. */
function secondsOld(setting: Setting): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const redis = await world.redis()
    const receiver = await world.receiver(() => ({ status: 204, delayMs: 1_000 }))
    const siteId = await openShop(world, receiver.url)
    const product = await world.start('start', { ...env, REDIS_URL: redis.url, WEBHOOK_CONCURRENCY: '5' })
    const dump = await redis.dump()
    await sendEvents(product, siteId, 'young_', 50)
    await receiver.waitFor(5)
    await redis.restore(dump)
    const restoredToDeliveredMs = await allDelivered(world, 50, 60_000)
    demand(distinctIds(receiver) === 50, `${distinctIds(receiver)} distinct ids`)
    return { restoredToDeliveredMs, alarms: (await readEpoch(world)).alarms, extraPosts: receiver.requests.length - 50 }
  })
}

export const oldDump: Scenario = {
  name: 'old-dump',
  title: 'an old dump of Redis restored under a running worker: nothing is lost',
  async run(setting) {
    const old = await yesterdays(setting)
    if (setting.small) return old
    const young = await secondsOld(setting)
    return { ...old, ...Object.fromEntries(Object.entries(young).map(([name, value]) => [`young.${name}`, value])) }
  },
}
