import { noteRows, touchedRows } from '../fixtures/row-versions.ts'
import type { Erp } from '../fixtures/erp.ts'
import { askSync, failureLogs, openErp, openErpSite, sync, syncEnds, syncJobs, type SyncJob } from './erp-shop.ts'
import { demandInLine } from './erp-compare.ts'
import { demand, type Facts } from './judge.ts'
import { inWorld, type Scenario } from './world.ts'

const total = 250
const hit = total * 0.6

interface Disaster {
  job: SyncJob
  mode: 'full' | 'incremental'
  /** What the log row must say. */
  says: RegExp
  strike(erp: Erp, skus: readonly string[]): void
}

const disasters: Readonly<Record<string, Disaster>> = {
  stock: {
    job: 'sync-inventory',
    mode: 'incremental',
    says: /stock/i,
    strike: (erp, skus) => {
      for (const sku of skus) erp.inventory.change(sku, { quantity: 0 })
    },
  },
  prices: {
    job: 'sync-prices',
    mode: 'incremental',
    says: /price/i,
    strike: (erp, skus) => {
      for (const sku of skus) erp.prices.change(sku, { price: '0.00' })
    },
  },
  products: {
    job: 'sync-products',
    mode: 'full',
    says: /inactive|no longer|deactivat/i,
    // No tombstones: they are just missing when everything is read.
    strike: (erp) => {
      for (let id = 1; id <= hit; id++) erp.products.forget(String(id))
    },
  },
}

/** SKUs, of the first products, that a stream of an ERP holds. */
function firstSkus(stream: Erp['inventory']): string[] {
  const page = stream.page({ since: null, cursor: null, skus: null, limit: Number.POSITIVE_INFINITY })
  const records = page === 'expired' ? [] : page.items.map((json) => JSON.parse(json) as { sku: string })
  return records.map(({ sku }) => sku).filter((sku) => Number(/^SKU-(\d+)/.exec(sku)?.[1]) <= hit)
}

export const erpBrake: Scenario = {
  name: 'erp-brake',
  title:
    '60 % of the stock, prices or products gone in one run: it fails, writes nothing and says why; force lets it through',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const erp = await openErp(world, total)
      const product = await world.start('start')
      const siteId = await openErpSite(world, { url: erp.url })
      for (const job of syncJobs) await sync(product, job, { siteId })
      await demandInLine(world, siteId, erp)
      const facts: Facts = {}
      for (const [name, { job, mode, says, strike }] of Object.entries(disasters)) {
        strike(erp, firstSkus(name === 'prices' ? erp.prices : erp.inventory))
        const logged = (await failureLogs(world, siteId)).length
        await noteRows(world.db)
        const ended = await syncEnds(product, await askSync(product, job, { siteId, mode }))
        demand(ended.state === 'failed', `${name}: the run ended ${ended.state}`)
        demand(ended.attempts === 1, `${name}: ${ended.attempts} attempts`)
        const touched = await touchedRows(world.db)
        demand(touched.rows === 1 && touched.ids === 1, `${name}: ${touched.rows} rows written besides the log's one`)
        const said = (await failureLogs(world, siteId)).slice(logged)
        demand(said.length === 1 && says.test(said[0]!), `${name}: the log says ${said.join('; ')}`)
        demand(said[0]!.includes(String(hit)), `${name}: the log doesn't say how many: ${said[0]}`)
        await sync(product, job, { siteId, mode, force: true })
        await demandInLine(world, siteId, erp)
        facts[name] = said[0]!
      }
      return facts
    }),
}
