import type { Receiver } from '../fixtures/receiver.ts'
import { demand, type Facts } from './judge.ts'
import { allDelivered, distinctIds, openShop, readEpoch, sendEvent } from './shop.ts'
import { inWorld, type Scenario, type Setting } from './world.ts'

const total = 2_000
const clients = 8
const concurrency = 100
const flushesAfter = [500, 1_000, 1_500, total]
const env = { WEBHOOK_RETRY_SCHEDULE: '0s,1s,2s,5s,5s,10s,10s', WEBHOOK_CONCURRENCY: String(concurrency) }

/** 204 after a while, so that work piles up and is under way at each flush; every tenth event gets a 503 the first time. */
async function failFirst(receiver: Receiver) {
  const failed = new Set<string>()
  receiver.answer(({ headers }) => {
    const id = String(headers['webhook-id'])
    if (!id.endsWith('0') || failed.has(id)) return { status: 204, delayMs: 400 }
    failed.add(id)
    return { status: 503, body: 'not now' }
  })
  return failed
}

function storm(setting: Setting, topology: 'one process' | 'api and two workers'): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const redis = await world.redis()
    const receiver = await world.receiver()
    const failed = await failFirst(receiver)
    const siteId = await openShop(world, receiver.url)
    const settings = { ...env, REDIS_URL: redis.url }
    const api = await world.start(topology === 'one process' ? 'start' : 'api', settings)
    if (topology !== 'one process')
      await Promise.all([world.start('worker', settings), world.start('worker', settings)])

    let sent = 0
    let accepted = 0
    const began = performance.now()
    const deliveredAtFlush: number[] = []
    const client = async () => {
      while (sent < total) {
        const { status } = await sendEvent(api, siteId, `storm_${++sent}`)
        demand(status === 202, `an event got ${status}`)
        if (flushesAfter.includes(++accepted)) {
          await redis.flush()
          deliveredAtFlush.push(distinctIds(receiver))
        }
      }
    }
    await Promise.all(Array.from({ length: clients }, client))
    const acceptMs = Math.round(performance.now() - began)
    demand(deliveredAtFlush.length === flushesAfter.length, `only ${deliveredAtFlush.length} flushes`)

    const settledMs = await allDelivered(world, total, 60_000)
    demand(distinctIds(receiver) === total, `${distinctIds(receiver)} distinct ids`)
    const extraPosts = receiver.requests.length - total - failed.size
    const processes = topology === 'one process' ? 1 : 2
    const mostExtra = flushesAfter.length * concurrency * processes
    demand(extraPosts <= mostExtra, `${extraPosts} extra posts, at most ${mostExtra} are fair`)
    return {
      acceptMs,
      receivedAtFlushes: deliveredAtFlush.join(' '),
      afterLastFlushMs: settledMs,
      deliberateFailures: failed.size,
      extraPosts,
      alarms: (await readEpoch(world)).alarms,
    }
  })
}

export const flushStorm: Scenario = {
  name: 'flush-storm',
  title: '2,000 events from 8 clients while Redis is wiped four times: each delivered and recorded',
  async run(setting) {
    const one = await storm(setting, 'one process')
    if (setting.small) return one
    const split = await storm(setting, 'api and two workers')
    return { ...one, ...Object.fromEntries(Object.entries(split).map(([name, value]) => [`split.${name}`, value])) }
  },
}
