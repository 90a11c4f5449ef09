import { setTimeout as wait } from 'node:timers/promises'
import { z } from 'zod'
import type { ErpRecords, SyncType } from '../../erp.ts'
import type { JsonCaller, JsonResult } from '../json-call.ts'
import { readEnvelope, type Envelope } from './envelope.ts'
import { below, pageUrl } from './http.ts'
import { readRecords } from './records.ts'

/** What was found out about an ERP. */
export interface CheckLine {
  level: 'ok' | 'warn' | 'fail'
  what: string
  /** What to do about it. */
  fix?: string
}

export interface CheckOptions {
  url: string
  token?: string | undefined
  siteKey?: string | undefined
  /** Records a page, as the worker will ask for. */
  pageSize: number
  types: readonly SyncType[]
  caller: JsonCaller
  redact(text: string): string
}

type Failed = Exclude<JsonResult<unknown>, { kind: 'answer' }>
type Asked = { page: Envelope; records: ErpRecords } | { problem: string; failed?: Failed }
type Query = Omit<Parameters<typeof pageUrl>[1], 'siteKey' | 'limit'> & { limit?: number; withToken?: boolean }

/** A page so small that several of them are needed. */
const smallPage = 3
const mostPages = 4
const mostReasons = 5
/** A wait that is asked for is kept, up to this. */
const patienceMs = 10_000
const names: Readonly<Record<SyncType, string>> = { product: 'products', inventory: 'inventory', price: 'prices' }
/** Nothing is called that. */
const nonsense = 'website-worker-check'

/** Checks an ERP against the contract of docs/erp.md: reads only, a few small requests, one after the other. */
export async function* checkErp(options: CheckOptions): AsyncGenerator<CheckLine> {
  const { url, token, siteKey, pageSize, types, caller, redact } = options
  const [main = 'product'] = types
  const first = await ask({ type: main, limit: smallPage })
  if ('problem' in first) {
    yield { level: 'fail', what: `${names[main]}: ${first.problem}`, fix: fixOf(first.failed) }
    return
  }
  yield { level: 'ok', what: `${names[main]}: answers with a page of records` }
  yield await checkToken()
  yield* checkPages(first.page)
  for (const type of types) yield* checkStream(type)
  yield await checkExpiry()
  yield await checkOrders()

  async function get(target: URL, withToken = true): Promise<JsonResult<unknown>> {
    for (let isFirst = true; ; isFirst = false) {
      const result = await caller.call({
        method: 'GET',
        url: target,
        headers: token !== undefined && withToken ? { authorization: `Bearer ${token}` } : {},
        schema: z.unknown(),
      })
      const askedMs = result.kind === 'error' ? result.retryAfterMs : null
      if (!isFirst || askedMs === null || askedMs > patienceMs) return result
      await wait(askedMs)
    }
  }

  async function ask({ limit = pageSize, withToken = true, ...query }: Query): Promise<Asked> {
    const result = await get(pageUrl(url, { ...query, siteKey, limit }), withToken)
    if (result.kind !== 'answer') return { problem: redact(result.error), failed: result }
    const page = readEnvelope(result.value)
    if ('problem' in page) return page
    return { page, records: readRecords(query.type, page.items, redact) }
  }

  async function checkToken(): Promise<CheckLine> {
    const fix = 'Let it answer 401 to whoever has no token, and set ERP_TOKEN'
    if (token === undefined) return { level: 'warn', what: 'token: it asks for none, so anyone can read it', fix }
    const without = await ask({ type: main, limit: 1, withToken: false })
    if ('problem' in without) return { level: 'ok', what: 'token: it is asked for' }
    return { level: 'warn', what: 'token: it answers without one too, so anyone can read it', fix }
  }

  async function* checkPages(start: Envelope): AsyncGenerator<CheckLine> {
    if (start.items.length > smallPage) {
      const what = `limit: asked for ${smallPage} records, it sends ${start.items.length}`
      yield { level: 'warn', what, fix: 'Heed `limit`: pages of more than 32 MiB can not be read' }
    }
    const seen = start.items.map((item) => JSON.stringify(item))
    let { nextCursor } = start
    let pages = 1
    for (; nextCursor !== null && pages < mostPages; pages++) {
      const next = await ask({ type: main, limit: smallPage, cursor: nextCursor })
      if ('problem' in next) {
        yield { level: 'fail', what: `cursor: the page behind it is none: ${next.problem}`, fix: fixOf(next.failed) }
        return
      }
      const repeated = next.page.items.some((item) => seen.includes(JSON.stringify(item)))
      if (repeated || next.page.nextCursor === nextCursor) {
        const fix = 'Answer `cursor` with the records behind it, in an order that does not change, e.g. by id'
        yield { level: 'fail', what: 'cursor: a page repeats records of the one before', fix }
        return
      }
      seen.push(...next.page.items.map((item) => JSON.stringify(item)))
      nextCursor = next.page.nextCursor
    }
    yield { level: 'ok', what: `cursor: ${pages === 1 ? 'one page is all' : `${pages} pages follow each other`}` }
  }

  async function* checkStream(type: SyncType): AsyncGenerator<CheckLine> {
    const name = names[type]
    const all = await ask({ type })
    if ('problem' in all) {
      const fix = `Offer it, or leave "${name}" out of settings.erp.streams of the site`
      const isMissing = all.failed?.kind === 'error' && all.failed.statusCode === 404
      yield { level: 'fail', what: `${name}: ${all.problem}`, fix: isMissing ? fix : fixOf(all.failed) }
      return
    }
    yield* checkRecords(name, all.records)
    yield* checkSince(type, all.page)
    const { products, levels, prices } = all.records
    const skus = [...products, ...levels, ...prices].slice(0, 2).map(({ sku }) => sku)
    if (skus.length > 0) yield await checkSkus(type, skus)
  }

  function* checkRecords(name: string, { rejects, ...lists }: ErpRecords): Generator<CheckLine> {
    const taken = Object.values(lists).reduce((sum, list) => sum + list.length, 0)
    const of = `${name}: ${taken} records of the first page are right`
    if (rejects.length === 0)
      yield { level: taken > 0 ? 'ok' : 'warn', what: taken > 0 ? of : `${name}: there are none` }
    else {
      const fix = 'They would be put in quarantine and the rest taken; see docs/erp.md for what each field may be'
      yield { level: taken > 0 ? 'warn' : 'fail', what: `${of}, ${rejects.length} are not`, fix }
    }
    for (const { erpId, sku, reason } of rejects.slice(0, mostReasons))
      yield { level: 'warn', what: `${name}: ${sku ?? erpId ?? 'a record without id or SKU'}: ${reason}` }
  }

  async function* checkSince(type: SyncType, all: Envelope): AsyncGenerator<CheckLine> {
    const name = names[type]
    const since = await ask({ type, since: all.checkpoint })
    const fix = 'Answer `since` with what changed after that checkpoint was given, and with nothing else'
    if ('problem' in since)
      yield { level: 'fail', what: `${name}: its own checkpoint is refused: ${since.problem}`, fix }
    else if (all.items.length > 0 && since.page.items.length >= all.items.length)
      yield { level: 'fail', what: `${name}: since its own checkpoint of just now everything has changed`, fix }
    else yield { level: 'ok', what: `${name}: ${since.page.items.length} changed since its own checkpoint of just now` }
  }

  async function checkSkus(type: SyncType, skus: readonly string[]): Promise<CheckLine> {
    const name = names[type]
    const some = await ask({ type, skus: [...skus, nonsense] })
    const fix = 'Answer `skus=a,b` with the records of these SKUs, and leave out those you do not know'
    if ('problem' in some) return { level: 'fail', what: `${name}: can not be asked for by SKU: ${some.problem}`, fix }
    const { products, levels, prices } = some.records
    const got = [...products, ...levels, ...prices].map(({ sku }) => sku)
    const missing = skus.filter((sku) => !got.includes(sku))
    if (missing.length > 0)
      return { level: 'fail', what: `${name}: asked for ${missing.join(', ')} by SKU, it sends others`, fix }
    const more = some.page.items.length - new Set(skus).size
    if (more > 0) return { level: 'warn', what: `${name}: asked for ${skus.length} SKUs, it sends ${more} more`, fix }
    return { level: 'ok', what: `${name}: can be asked for by SKU` }
  }

  async function checkExpiry(): Promise<CheckLine> {
    const result = await get(pageUrl(url, { type: main, siteKey, limit: 1, since: nonsense }))
    if (result.kind === 'error' && result.statusCode === 410)
      return { level: 'ok', what: 'checkpoint: answers 410 to one it does not know' }
    const answered = result.kind === 'none' ? result.error : `answers ${result.statusCode}`
    const fix = 'Answer 410: then everything is read anew. Else changes may be missed, or every run fails'
    return { level: 'warn', what: `checkpoint: one it does not know: ${answered}`, fix }
  }

  async function checkOrders(): Promise<CheckLine> {
    const target = below(url, 'orders')
    target.searchParams.set('reference', nonsense)
    const result = await get(target)
    const items = result.kind === 'answer' ? (result.value as { items?: unknown } | null)?.items : undefined
    if (Array.isArray(items) && items.length === 0) return { level: 'ok', what: 'orders: can be searched by reference' }
    const answered = result.kind === 'answer' ? 'the answer is not {"items": []}' : redact(result.error)
    return { level: 'warn', what: `orders: ${answered}`, fix: 'Needed only where orders are pushed to it' }
  }
}

/** What to do about a call that failed. */
function fixOf(failed: Failed | undefined): string {
  if (!failed) return 'Answer {"items": […], "nextCursor": "…" or null, "checkpoint": "…"}'
  if (failed.kind === 'error') {
    const { statusCode } = failed
    if (statusCode === 401 || statusCode === 403) return 'Set ERP_TOKEN, or give --token'
    if (statusCode === 404) return 'The URL must be the one that /products is below'
    if (statusCode >= 300 && statusCode < 400) return 'Give the URL that it redirects to'
    if (statusCode < 300) return 'Answer JSON'
    return 'See what it logs'
  }
  if (failed.cause === 'refused') return 'List its address range in OUTBOUND_ALLOW_CIDRS if it may be reached'
  if (failed.why === 'no-host') return 'Correct the host of the URL'
  if (failed.why === 'too-long') return 'Heed `limit`, or set a smaller settings.erp.pageSize'
  return 'Is it running, and can it be reached from here?'
}
