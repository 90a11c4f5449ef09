import { demand, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { allDelivered, distinctIds, openShop, readLedger, sendEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting } from './world.ts'

const total = 500
const concurrency = 25
const killsAt = [100, 300]
const mostRecoveryMs = 25_000

type Topology = 'redis' | 'postgres' | 'split'

/** 500 deliveries of 100 ms each; a process is killed and restarted at the 100th and the 300th. */
function killTwice(setting: Setting, topology: Topology): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const receiver = await world.receiver(() => ({ status: 204, delayMs: 100 }))
    const siteId = await openShop(world, receiver.url)
    const env: Record<string, string> = { WEBHOOK_CONCURRENCY: String(concurrency) }
    if (topology !== 'postgres') env['REDIS_URL'] = (await world.redis()).url
    const role = topology === 'split' ? 'worker' : 'start'
    const victims: Product[] = [await world.start(role, env)]
    if (topology === 'split') victims.push(await world.start(role, env))
    const api = topology === 'split' ? await world.start('api', env) : victims[0]!
    await sendEvents(api, siteId, 'kill_', total)
    let lastKill = 0
    for (const at of killsAt) {
      await receiver.waitFor(at, 30_000)
      await victims.shift()?.kill()
      lastKill = performance.now()
      victims.push(await world.start(role, env))
    }
    await allDelivered(world, total, 60_000)
    const recoveryMs = Math.round(performance.now() - lastKill)
    const { attempts } = await readLedger(world)
    demand(distinctIds(receiver) === total, `${distinctIds(receiver)} distinct ids`)
    const extraPosts = receiver.requests.length - total
    demand(extraPosts <= killsAt.length * concurrency, `${extraPosts} extra posts`)
    demand(recoveryMs <= mostRecoveryMs, `recovery took ${recoveryMs} ms`)
    return { extraPosts, recoveryMs, attemptsRecorded: attempts }
  })
}

export const kill9: Scenario = {
  name: 'kill-9',
  title: 'kill -9 twice in the middle of 500 deliveries: all delivered, one ledger row each',
  async run(setting) {
    const topologies: Topology[] = setting.small ? ['redis'] : ['redis', 'postgres', 'split']
    const facts: Facts = {}
    for (const topology of topologies) {
      for (const [name, value] of Object.entries(await killTwice(setting, topology)))
        facts[`${topology}.${name}`] = value
    }
    return facts
  },
}
