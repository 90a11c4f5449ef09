import { sql } from 'drizzle-orm'
import { Webhook } from 'standardwebhooks'
import type { Erp } from '../fixtures/erp.ts'
import { productRecord } from '../fixtures/erp-catalogue.ts'
import { openErp, openErpSite, sync, syncEnds, syncJobs, type SyncJob } from './erp-shop.ts'
import { demandInLine } from './erp-compare.ts'
import { demand, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { inWorld, type Scenario, type World } from './world.ts'

const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const pageSize = 50

/** Says, as an ERP would, that records have changed; resolves with the run that this asks for. */
async function push(api: Product, body: { siteId: number; type: string; skus: string[] }) {
  const text = JSON.stringify(body)
  const id = `push_${crypto.randomUUID()}`
  const at = new Date()
  const response = await fetch(`${api.url}/v1/erp/changes`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
      'webhook-signature': new Webhook(secret).sign(id, at, text),
    },
    body: text,
  })
  demand(response.status === 202, `a push got ${response.status}: ${await response.clone().text()}`)
  return (await response.json()) as { jobId: string }
}

const streams: Readonly<Record<SyncJob, { type: string; path: 'products' | 'inventory' | 'prices' }>> = {
  'sync-products': { type: 'product', path: 'products' },
  'sync-inventory': { type: 'inventory', path: 'inventory' },
  'sync-prices': { type: 'price', path: 'prices' },
}

/** The first page as a replica of the ERP that lags behind would still give it. */
function agedPage(erp: Erp, path: 'products' | 'inventory' | 'prices', limit: number): string {
  const page = erp[path].page({ since: null, cursor: null, skus: null, limit })
  if (page === 'expired') throw new Error('no page')
  const { items, ...rest } = page
  return `{"items":[${items.join(',')}],${JSON.stringify(rest).slice(1)}`
}

/** A record is pushed; then a full run reads a page that still has the version before. */
async function newerFirst(world: World, api: Product, erp: Erp, siteId: number): Promise<Facts> {
  const sku = String(productRecord(0)['sku'])
  for (const job of syncJobs) {
    const { type, path } = streams[job]
    const aged = agedPage(erp, path, pageSize)
    if (path === 'products') erp.products.change('1', { name: 'Named anew', cost: '3.21' })
    else if (path === 'inventory') erp.inventory.change(sku, { quantity: 4_711 })
    else erp.prices.change(sku, { price: '47.11' })
    const { jobId } = await push(api, { siteId, type, skus: [sku] })
    const pushed = await syncEnds(api, { job, jobId })
    demand(pushed.state === 'completed', `the pushed ${job} ${pushed.state}: ${pushed.failedReason}`)
    await demandInLine(world, siteId, erp)
    let served = 0
    erp.onRequest((request) => {
      const isFirst = request.path === path && request.cursor === null && request.skus === null
      if (!isFirst) return 'serve'
      served++
      return { status: 200, body: aged }
    })
    await sync(api, job, { siteId, mode: 'full' })
    erp.onRequest(() => 'serve')
    demand(served > 0, 'the older page was never read')
    await demandInLine(world, siteId, erp)
  }
  return { newerKept: syncJobs.length }
}

/** What the shop wrote itself, and what the ERP owns, after a full run. */
async function editsStay(world: World, api: Product, siteId: number): Promise<void> {
  const sku = productRecord(1)['sku'] as string
  const edit = { name: 'The name the shop gave it', description: 'Words of the shop', seo: 'the-shops-own-slug' }
  await world.db.execute(sql`
    UPDATE website_products SET name = ${edit.name}, description = ${edit.description}, seo_slug = ${edit.seo},
      is_featured = true, cost = 1.11
    WHERE site_id = ${siteId} AND sku = ${sku}`)
  await sync(api, 'sync-products', { siteId, mode: 'full' })
  const { rows } = await world.db.execute(sql`
    SELECT name, description, seo_slug AS seo, is_featured AS featured, cost::text FROM website_products
    WHERE site_id = ${siteId} AND sku = ${sku}`)
  const row = rows[0]!
  for (const [field, value] of Object.entries(edit))
    demand(row[field] === value, `the shop's ${field} became ${String(row[field])}`)
  demand(row.featured === true, 'a featured product no longer is')
  demand(row.cost === productRecord(1)['cost'], `the cost, which the ERP owns, stayed ${String(row.cost)}`)
  await world.db.execute(sql`
    UPDATE website_products SET name = ${productRecord(1)['name']} WHERE site_id = ${siteId} AND sku = ${sku}`)
}

/** The same numbers every time. */
function createDice(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state % below
  }
}

/** Changes at the ERP between the pages of every traversal, at its ends and in its middle: none is lost. */
async function changesBetweenPages(
  world: World,
  api: Product,
  erp: Erp,
  siteId: number,
  rounds: number,
): Promise<Facts> {
  const dice = createDice(4)
  const live = Array.from({ length: erp.products.size }, (_, n) => n + 1)
  let changes = 0
  let added = 1_000_000
  const changeSome = () => {
    for (let n = 0; n < 4; n++, changes++) {
      const id = live[dice(live.length)]!
      const sku = erp.products.get(String(id))!['sku'] as string
      const level = erp.inventory.get(sku) ? sku : `${sku}-M`
      erp.products.change(String(id), { name: `Named in change ${changes}` })
      erp.inventory.change(level, { quantity: changes })
      erp.prices.change(sku, { price: `${changes}.${10 + dice(90)}` })
    }
    if (dice(3) === 0) {
      erp.products.delete(String(live.splice(dice(live.length), 1)[0]))
      const id = ++added
      const sku = `NEW-${id}`
      erp.products.set({ ...productRecord(0), id, sku })
      erp.inventory.set({ sku, quantity: id })
      erp.prices.set({ sku, price: '9.99' })
      live.push(id)
    }
  }
  erp.onRequest(() => {
    changeSome()
    return 'serve'
  })
  for (let round = 0; round < rounds; round++)
    await Promise.all(
      syncJobs.map((job) => sync(api, job, { siteId, mode: round % 3 === 0 ? 'full' : 'incremental', force: true })),
    )
  erp.onRequest(() => 'serve')
  for (const job of syncJobs) await sync(api, job, { siteId, mode: 'incremental', force: true })
  await demandInLine(world, siteId, erp)
  return { rounds, changesMeanwhile: changes }
}

export const erpOrder: Scenario = {
  name: 'erp-order',
  title: "the newer version stays, the shop's edits survive, and changes between the pages of a traversal are not lost",
  run: (setting) =>
    inWorld(setting, async (world) => {
      const erp = await openErp(world, setting.small ? 300 : 1_000)
      const product = await world.start('start', { ERP_WEBHOOK_SECRET: secret })
      const siteId = await openErpSite(world, { url: erp.url, pageSize })
      for (const job of syncJobs) await sync(product, job, { siteId })
      const kept = await newerFirst(world, product, erp, siteId)
      await editsStay(world, product, siteId)
      const rounds = await changesBetweenPages(world, product, erp, siteId, setting.small ? 4 : 20)
      return { ...kept, ...rounds }
    }),
}
