import type { Erp, ErpMood, ErpRecord } from '../fixtures/erp.ts'
import { noteRows, touchedRows } from '../fixtures/row-versions.ts'
import { askSync, openErp, openErpSite, readQuarantine, sync, syncEnds, syncJobs } from './erp-shop.ts'
import { demandInLine } from './erp-compare.ts'
import { demand, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { inWorld, type Scenario, type Setting } from './world.ts'

const total = 5_000
const mostCalls = 4
/** Twelve runs at once share two processes. */
const patienceMs = 400_000

/** By product: what is wrong with it, and what the reason must name. */
const faulty: Readonly<Record<number, { fields: ErpRecord; reason: RegExp }>> = {
  11: { fields: { price: '-1.00' }, reason: /price.*negative/i },
  1_200: { fields: { price: '100000000.00' }, reason: /price.*99999999\.99/i },
  2_300: { fields: { sku: '' }, reason: /sku.*empty/i },
  4_999: { fields: { name: 'x'.repeat(400) }, reason: /name.*400.*255/i },
}
const isFaulty = (record: ErpRecord) => Number(record['id']) - 1 in faulty

/** What becomes of the first calls, whoever makes them. */
const firstMoods: readonly ErpMood[] = [
  { status: 429, headers: { 'retry-after': '1' } },
  { status: 500, body: '{"error":"no"}' },
  'drop',
  'half',
  'cut',
]

async function demandQuarantined(api: Product, siteId: number): Promise<void> {
  const items = await readQuarantine(api, siteId)
  const said = items.map((item) => item.reason).join('; ')
  for (const { reason } of Object.values(faulty))
    demand(items.filter((item) => reason.test(item.reason)).length === 1, `nothing like ${reason} in: ${said}`)
  demand(items.length === Object.keys(faulty).length, `${items.length} in quarantine: ${said}`)
}

/** Every stream of every site, all asked for at once. */
async function syncAll(api: Product, siteIds: readonly number[]): Promise<void> {
  const asking = siteIds.flatMap((siteId) => syncJobs.map((job) => askSync(api, job, { siteId, mode: 'full' })))
  const ended = await Promise.all((await Promise.all(asking)).map((asked) => syncEnds(api, asked, patienceMs)))
  for (const { job, state, failedReason } of ended) demand(state === 'completed', `${job} ${state}: ${failedReason}`)
}

function beHostile(erp: Erp): void {
  // Slow enough that many would be under way at a time if they were let.
  erp.onRequest(({ n }) => firstMoods[n - 1] ?? { delayMs: 20 })
}

function survive(setting: Setting, sites: number): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const erp = await openErp(world, total, { token: 'faults-token', change: (n) => faulty[n]?.fields ?? {} })
    beHostile(erp)
    const redis = await world.redis()
    const env = { REDIS_URL: redis.url, ERP_URL: erp.url, ERP_TOKEN: 'faults-token' }
    const api = await world.start('api', env)
    await Promise.all([world.start('worker', env), world.start('worker', env)])
    const siteIds = await Promise.all(Array.from({ length: sites }, () => openErpSite(world, {})))

    const began = performance.now()
    await syncAll(api, siteIds)
    const firstMs = Math.round(performance.now() - began)
    const firstCalls = erp.requests.length
    let stock = 0
    for (const siteId of siteIds) {
      const inLine = await demandInLine(world, siteId, erp, isFaulty)
      demand(inLine.products === total - Object.keys(faulty).length, `${inLine.products} products`)
      stock = inLine.stock
      await demandQuarantined(api, siteId)
    }

    await noteRows(world.db)
    await syncAll(api, siteIds)
    const touched = await touchedRows(world.db)
    demand(touched.rows === 0, `a second full run wrote ${touched.rows} rows`)
    demand(touched.ids === 0, `a second full run took ${touched.ids} ids`)
    demand(erp.mostInFlight <= mostCalls, `${erp.mostInFlight} calls at a time`)
    // Else nothing was there to be held back.
    demand(erp.mostInFlight > 1, 'there was never more than one call at a time')
    return { sites, firstMs, firstCalls, mostInFlight: erp.mostInFlight, stock, rewritten: 0 }
  })
}

/** One site, one process, one stream after the other: as small as an installation is. */
function surviveAlone(setting: Setting): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const erp = await openErp(world, total, { change: (n) => faulty[n]?.fields ?? {} })
    beHostile(erp)
    const product = await world.start('start')
    const siteId = await openErpSite(world, { url: erp.url })
    for (const job of syncJobs) await sync(product, job, { siteId }, patienceMs)
    await demandInLine(world, siteId, erp, isFaulty)
    await demandQuarantined(product, siteId)
    await noteRows(world.db)
    for (const job of syncJobs) await sync(product, job, { siteId, mode: 'full' }, patienceMs)
    const { rows, ids } = await touchedRows(world.db)
    demand(rows === 0 && ids === 0, `second full runs wrote ${rows} rows and took ${ids} ids`)
    return { 'alone.rewritten': rows, 'alone.calls': erp.requests.length }
  })
}

export const erpHostile: Scenario = {
  name: 'erp-hostile',
  title: 'an ERP that refuses, fails, hangs up and has bad records: all else exact, twice the same writes nothing',
  run: async (setting) =>
    setting.small ? survive(setting, 2) : { ...(await surviveAlone(setting)), ...(await survive(setting, 4)) },
}
