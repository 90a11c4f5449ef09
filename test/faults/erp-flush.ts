import { askSync, openErp, openErpSite, syncEnds, syncJobs } from './erp-shop.ts'
import { demandInLine } from './erp-compare.ts'
import { demand, until } from './judge.ts'
import { readEpoch } from './shop.ts'
import { inWorld, type Scenario } from './world.ts'

const pageSize = 50
const flushesAfter = [0.1, 0.4, 0.7]

export const erpFlush: Scenario = {
  name: 'erp-flush',
  title: 'Redis is wiped three times while all streams of two sites are synced: nothing is lost or read twice',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const total = setting.small ? 1_000 : 10_000
      const redis = await world.redis()
      const env = { REDIS_URL: redis.url }
      const api = await world.start('api', env)
      await Promise.all([world.start('worker', env), world.start('worker', env)])
      const erps = [await openErp(world, total), await openErp(world, total)]
      for (const erp of erps) erp.onRequest(() => ({ delayMs: 30 }))
      const siteIds = await Promise.all(erps.map((erp) => openErpSite(world, { url: erp.url, pageSize })))
      const pages = erps.reduce(
        (sum, erp) =>
          sum + [erp.products, erp.inventory, erp.prices].reduce((n, { size }) => n + Math.ceil(size / pageSize), 0),
        0,
      )
      const requests = () => erps.reduce((sum, erp) => sum + erp.requests.length, 0)

      const asking = siteIds.flatMap((siteId) => syncJobs.map((job) => askSync(api, job, { siteId })))
      const asked = await Promise.all(asking)
      for (const share of flushesAfter) {
        await until(`${share} of the pages`, 60_000, () => requests() >= pages * share, requests)
        await redis.flush()
      }
      const flushed = performance.now()
      for (const each of asked) {
        const { state, failedReason } = await syncEnds(api, each, 100_000)
        demand(state === 'completed', `${each.job} ${state}: ${failedReason}`)
      }
      const endedMs = Math.round(performance.now() - flushed)
      for (const [n, erp] of erps.entries()) await demandInLine(world, siteIds[n]!, erp)
      const again = requests() - pages
      demand(again === 0, `${again} pages were asked for again`)
      return { pages, afterLastFlushMs: endedMs, alarms: (await readEpoch(world)).alarms }
    }),
}
