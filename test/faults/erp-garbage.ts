import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createClient } from '../../src/client/index.ts'
import type { ErpMood, ErpRecord } from '../fixtures/erp.ts'
import { fillCatalogue } from '../fixtures/erp-catalogue.ts'
import { noteRows, touchedRows } from '../fixtures/row-versions.ts'
import { askSync, openErp, openErpSite, readQuarantine, sync, syncJobs, viewSync } from './erp-shop.ts'
import { demandInLine } from './erp-compare.ts'
import { demand, until, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { watchMemory } from './rss.ts'
import { apiKey, inWorld, type Scenario, type World } from './world.ts'

const good = 300
const pageSize = 40
const mostMb = 500
const megabyte = 'x'.repeat(1_000_000)
const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`

/** Records of which nothing may get into the shop, as JSON; each is one in quarantine. */
const badProducts: readonly string[] = [
  '"sku":"BAD-1","name":"a\\u0000b","price":"1.00","version":1',
  '"sku":"BAD-2","name":"a\\ud800b","price":"1.00","version":1',
  '"sku":"BAD-3\\udc00","name":"n","price":"1.00","version":1',
  `"sku":"BAD-4","name":"${megabyte}","price":"1.00","version":1`,
  `"sku":"BAD-5","name":"n","description":"${megabyte}","price":"1.00","version":1`,
  `"sku":"${megabyte}","name":"n","price":"1.00","version":1`,
  '"sku":"BAD-7","name":"n","__proto__":{"price":"1.00"},"version":1',
  `"sku":"BAD-8","name":"n","price":"1.00","attributes":{"a":${nested(20_000)}},"version":1`,
  '"sku":"BAD-9","name":"n","price":1e400,"version":1',
  '"sku":"BAD-10","name":"n","price":0.1000000000000001,"version":1',
  '"sku":"BAD-11","name":"n","price":{"amount":"1.00"},"version":1',
  '"sku":"BAD-12","name":"n","price":["1.00"],"version":1',
  '"sku":"BAD-13","name":"n","price":true,"version":1',
  '"sku":"BAD-14","name":{"en":"n"},"price":"1.00","version":1',
  '"sku":["BAD-15"],"name":"n","price":"1.00","version":1',
  '"sku":"BAD-16","name":"n","price":"1.00","version":1e400',
  '"sku":"BAD-17","name":"n","price":"1.00","version":"yesterday"',
  '"sku":"BAD-18","name":"n","price":"1.00","version":1,"status":"on holiday"',
  '"sku":"BAD-19","name":"n","price":"1.00","version":1,"attributes":{"key\\u0000":1}',
  '"sku":"BAD-20","name":"n","price":"1.00","version":1,"images":["\\udfff"]',
  '"sku":"BAD-21","name":"n","price":"NaN","version":1',
  '"sku":"BAD-22","name":"n","price":"1e3","version":1',
  '"sku":"BAD-23","name":"n","price":"1.00","version":1,"weight":"-1"',
  '"sku":"BAD-24","name":"n","price":"1.00\'); DROP TABLE website_products; --","version":1',
]
/** Not even records. */
const nonsense: readonly string[] = [
  'null',
  '42',
  '"text"',
  '[]',
  '[[]]',
  'true',
  '{}',
  '{"id":{}}',
  '{"__proto__":null}',
]
const badLevels: readonly string[] = [
  '{"sku":"SKU-000001","quantity":1e400,"version":99999999}',
  '{"sku":"SKU-000002","quantity":"many","version":99999999}',
  '{"sku":"SKU-000003","quantity":2147483648,"version":99999999}',
  '{"sku":"SKU-000004","quantity":0.5,"version":99999999}',
  '{"sku":"SKU-000006","quantity":null,"version":99999999}',
  '{"sku":"SKU-\\u0000","quantity":1,"version":1}',
  '{"sku":null,"quantity":1,"version":1}',
]
const badPrices: readonly string[] = [
  '{"sku":"SKU-000001","price":"-1","version":99999999}',
  '{"sku":"SKU-000002","price":1e400,"version":99999999}',
  '{"sku":"SKU-000003","price":"100000000","version":99999999}',
  '{"sku":"SKU-000004","price":"1.001","version":99999999}',
  '{"sku":"SKU-\\ud800","price":"1","version":1}',
]

const isGood = (record: ErpRecord | null) => Number(record?.['id']) <= good
const isSound = (record: ErpRecord | null) =>
  typeof record?.['sku'] === 'string' && /^SKU-\d+/.test(record['sku']) && Number(record['version']) < 99_999_999

/** Records that can't be taken, among ones that can. */
async function garbageRecords(world: World, product: Product): Promise<Facts> {
  const erp = await openErp(world, 0)
  // Some before, some between and some after the good ones.
  const bad = badProducts.map((fields, n) => `{"id":${9_001 + n},${fields}}`)
  const put = (stream: 'products' | 'inventory' | 'prices', all: readonly string[]) => {
    for (const [n, json] of all.entries()) erp[stream].rawJson(`${stream}-${n}`, json)
  }
  put('inventory', [...badLevels, ...nonsense])
  put('products', bad)
  fillCatalogue(erp, good)
  for (const [n, json] of nonsense.entries()) erp.products.rawJson(`nonsense-${n}`, json)
  put('prices', [...badPrices, ...nonsense])

  const siteId = await openErpSite(world, { url: erp.url, pageSize })
  for (const job of syncJobs) await sync(product, job, { siteId })
  const isBad = (record: ErpRecord) => !(isSound(record) && ('id' in record ? isGood(record) : true))
  await demandInLine(world, siteId, erp, isBad)
  const items = await readQuarantine(product, siteId)
  const known = new Set(items.map((item) => item.erpId))
  const missing = badProducts.filter((_, n) => !known.has(String(9_001 + n)))
  demand(missing.length === 0, `not in quarantine: ${missing.map((json) => json.slice(0, 80)).join(' | ')}`)
  const reasonless = items.find((item) => item.reason.length < 5)
  demand(reasonless === undefined, `a reason that is none: ${JSON.stringify(reasonless)}`)

  await noteRows(world.db)
  for (const job of syncJobs) await sync(product, job, { siteId, mode: 'full' })
  const touched = await touchedRows(world.db)
  demand(touched.rows === 0 && touched.ids === 0, `the same again wrote ${touched.rows} rows, took ${touched.ids} ids`)
  return { good, quarantined: items.length }
}

const page = (rest: string) => ({ status: 200, body: `{${rest}}` })

/** Answers that are no pages. */
const badPages: Readonly<Record<string, (n: number) => ErpMood>> = {
  'items that are no list': () => page('"items":{},"nextCursor":null,"checkpoint":"c"'),
  'an answer that is a list': () => ({ status: 200, body: '[]' }),
  'a web page': () => ({ status: 200, body: '<html>Welcome</html>', headers: { 'content-type': 'text/html' } }),
  'no checkpoint': () => page('"items":[],"nextCursor":null'),
  'the same cursor for ever': () => page('"items":[],"nextCursor":"again","checkpoint":"c"'),
  'two cursors in turn': (n) => page(`"items":[],"nextCursor":"${n % 2}","checkpoint":"c"`),
  'a cursor of a megabyte': () => page(`"items":[],"nextCursor":"${megabyte}","checkpoint":"c"`),
  'a checkpoint with a NUL': () => page('"items":[],"nextCursor":null,"checkpoint":"\\u0000"'),
}
/** Tries, over the first attempts of one run. */
const mostRequests = 40

/** Says why it doesn't go on, and doesn't ask again and again. */
async function stopsWithReason(product: Product, siteId: number): Promise<string> {
  const asked = await askSync(product, 'sync-products', { siteId })
  let reason: string | null = null
  await until('the run says what is wrong', 60_000, async () => {
    const { state, failedReason } = await viewSync(product, asked)
    demand(state !== 'completed', 'a run of garbage was completed')
    reason = failedReason
    return state === 'failed' || (state === 'delayed' && failedReason !== null)
  })
  demand(reason !== null && String(reason).length > 10, `the reason is ${reason}`)
  await createClient({ url: product.url, apiKey })
    .cancelJob(asked.job, asked.jobId)
    .catch(() => {})
  return String(reason)
}

async function garbagePages(world: World, product: Product): Promise<Facts> {
  const facts: Facts = {}
  const checking = Object.entries(badPages).map(async ([name, mood]) => {
    const erp = await openErp(world, 0)
    erp.onRequest(({ n }) => mood(n))
    const siteId = await openErpSite(world, { url: erp.url })
    facts[name] = await stopsWithReason(product, siteId).catch((error: Error) => {
      throw new Error(`${name}: ${error.message}`, { cause: error })
    })
    demand(erp.requests.length <= mostRequests, `${name}: ${erp.requests.length} requests`)
  })
  await Promise.all(checking)
  return facts
}

/** Begins a page and never ends it. */
async function startEndlessErp(world: World) {
  const sent = { answers: 0, bytes: 0 }
  const chunk = Buffer.alloc(65_536, '{"sku":"x"},')
  const pour = (response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'application/json' }).write('{"items":[')
    const more = () => {
      while (!response.destroyed) {
        sent.bytes += chunk.length
        if (!response.write(chunk)) return
      }
    }
    response.on('drain', more)
    more()
  }
  const server = createServer((_request, response) => {
    sent.answers++
    pour(response)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  world.defer(
    () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  )
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sent }
}

export const erpGarbage: Scenario = {
  name: 'erp-garbage',
  title:
    'NULs, lone surrogates, megabytes, nonsense and endless pages from an ERP: said and put aside, all else goes on',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const product = await world.start('start')
      const memory = watchMemory(product.pid, () => 0)
      world.defer(async () => memory.stop())
      const records = await garbageRecords(world, product)
      const pages = await garbagePages(world, product)
      const endless = await startEndlessErp(world)
      pages['a page without end'] = await stopsWithReason(product, await openErpSite(world, { url: endless.url }))
      demand(endless.sent.answers <= mostRequests, `a page without end was asked for ${endless.sent.answers} times`)
      demand(product.isRunning(), 'the process ended')
      demand(memory.peakMb() <= mostMb, `memory grew to ${memory.peakMb()} MB`)
      return { ...records, ...pages, endlessAnswers: endless.sent.answers, peakMb: memory.peakMb() }
    }),
}
