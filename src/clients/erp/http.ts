import { createHash } from 'node:crypto'
import pRetry, { AbortError } from 'p-retry'
import { z } from 'zod'
import { messageOf } from '../../errors.ts'
import type { SyncType } from '../../erp.ts'
import type { JsonCaller, JsonResult } from '../json-call.ts'
import type { ErpConnector, ErpPageRequest, ErpPageResult } from './connector.ts'
import { createTraversalWatch, readEnvelope } from './envelope.ts'
import { readRecords } from './records.ts'
import type { ErpLimits, ErpTurns, TurnOutcome } from './turns.ts'

export interface HttpErpConfig {
  /** Its records are at `/products`, `/inventory` and `/prices` below; a query stays. */
  url: string
  /** Sent as `Authorization: Bearer`. Default: none. */
  token?: string | undefined
  /** What the ERP calls the site. Default: it isn't told. */
  siteKey?: string | undefined
  /** Records a page. Default: 500. */
  pageSize?: number
  limits: ErpLimits
  /** Default: all three. */
  types?: readonly SyncType[]
}

export interface HttpErpDeps {
  /** Reads pages of up to `maxPageBytes`. */
  caller: JsonCaller
  turns: ErpTurns
  /** Takes secrets out of texts. */
  redact(text: string): string
  /** `website-worker/<version>` */
  userAgent: string
  /** By then a call is over. Default: 30000. */
  timeoutMs?: number
  /** Waited before the second try, twice as long before each further one. Default: 300. */
  firstRetryMs?: number
}

/** Bytes of a page that are read; one that is longer is asked for in smaller pieces. */
export const maxPageBytes = 32 * 1_048_576

/** An ERP's longest wait that a page is waited for; beyond, the run goes on later. */
const patienceMs = 10_000
/** A longer one is taken for a mistake. */
const longestAskedMs = 3_600_000
const mostSkus = 50
const retries = 4
const paths: Readonly<Record<SyncType, string>> = { product: 'products', inventory: 'inventory', price: 'prices' }

/** 4xx that may be another answer next time. */
const passing: readonly number[] = [408, 425, 429]
/** What `Retry-After` is heeded with; of others it is no word about load. */
const asksToWait: readonly number[] = [429, 503]

/** Where a page of a stream is. */
export function pageUrl(
  base: string,
  page: Pick<ErpPageRequest, 'type' | 'since' | 'cursor' | 'skus'> & { siteKey?: string | undefined; limit: number },
): URL {
  const { type, siteKey, limit, since, cursor, skus } = page
  const url = below(base, paths[type])
  url.searchParams.set('limit', String(limit))
  if (siteKey !== undefined) url.searchParams.set('site', siteKey)
  if (since !== undefined) url.searchParams.set('since', since)
  if (cursor !== undefined) url.searchParams.set('cursor', cursor)
  // Commas between SKUs stand as they are, those within one don't.
  if (skus)
    url.search += `&skus=${skus.map((sku) => encodeURIComponent(sku.replaceAll(/\p{Cs}/gu, '\uFFFD'))).join(',')}`
  return url
}

/** A path below an ERP's URL; its query stays. */
export function below(base: string, path: string): URL {
  const url = new URL(base)
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/${path}`
  url.hash = ''
  return url
}

type Ended = ErpPageResult | { kind: 'too-long' }
/** Ends a page at once, or after the last try. */
class Unfinished extends Error {
  readonly result: Ended
  constructor(result: Ended) {
    super(result.kind)
    this.result = result
  }
}

/** An ERP behind the HTTP contract of docs/erp.md. */
export function createHttpErp(config: HttpErpConfig, deps: HttpErpDeps): ErpConnector {
  const { token, siteKey, pageSize = 500, limits, types = ['product', 'inventory', 'price'] } = config
  const { caller, turns, userAgent, timeoutMs = 30_000, firstRetryMs = 300 } = deps
  const base = new URL(config.url)
  const watch = createTraversalWatch()
  const redact = (text: string) => {
    const redacted = deps.redact(text)
    return token === undefined || token.length < 4 ? redacted : redacted.replaceAll(token, '[redacted]')
  }
  const unavailable = (error: string, retryAfterMs: number | null = null, isBreakerOpen = false) =>
    ({ kind: 'unavailable', error: redact(error), retryAfterMs, isBreakerOpen }) as const
  const unusable = (error: string) => ({ kind: 'unusable', error: redact(error) }) as const
  /** What a page may hold: less, once one was too long. */
  let limit = pageSize

  async function once(request: ErpPageRequest): Promise<Ended> {
    const { signal, siteId, runId } = request
    const target = pageUrl(config.url, { ...request, siteKey, limit })
    const turn = await turns.enter(base.origin, limits, { callMs: timeoutMs, signal })
    if (turn.kind === 'wait') {
      const waiting = unavailable(words[turn.why], turn.ms, turn.why === 'open')
      throw new AbortError(new Unfinished(waiting))
    }
    const result = await caller.call({
      method: 'GET',
      url: target,
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      schema: z.unknown(),
      userAgent: `${userAgent} (site=${siteId}; run=${runId})`,
      timeoutMs,
      signal,
    })
    const leaving = turn.leave(outcomeOf(result))
    try {
      return result.kind === 'answer' ? readPage(request, result.value) : judge(result)
    } finally {
      await leaving
    }
  }

  function readPage(request: ErpPageRequest, json: unknown): ErpPageResult {
    const { type, since, cursor, skus, runId } = request
    const page = readEnvelope(json)
    if ('problem' in page) return unusable(`${paths[type]}: ${page.problem}`)
    const traversal = JSON.stringify([runId, type, since, skus])
    const endless = watch(traversal, cursor, page)
    if (endless !== null) return unusable(`${paths[type]}: ${endless}`)
    const { items, nextCursor, checkpoint } = page
    return { kind: 'page', records: readRecords(type, items, redact), nextCursor, checkpoint }
  }

  /** What a call without a page means; throws what is worth another try. */
  function judge(result: Exclude<JsonResult<unknown>, { kind: 'answer' }>): Ended {
    const { error } = result
    if (result.kind === 'none') {
      if (result.why === 'too-long') return { kind: 'too-long' }
      if (result.cause === 'aborted') throw new AbortError(new Unfinished(unavailable(error)))
      if (result.cause === 'refused' || result.cause === 'unusable' || result.why === 'no-host') return unusable(error)
      throw new Unfinished(unavailable(error))
    }
    const { statusCode, retryAfterMs } = result
    if (statusCode === 410) return { kind: 'expired' }
    const askedMs = asksToWait.includes(statusCode) ? retryAfterMs : null
    if (askedMs !== null && askedMs > patienceMs) return unavailable(error, Math.min(askedMs, longestAskedMs))
    const isForGood = statusCode >= 300 && statusCode < 500 && !passing.includes(statusCode)
    if (isForGood) return unusable(error)
    throw new Unfinished(unavailable(error, askedMs))
  }

  async function tried(request: ErpPageRequest): Promise<Ended> {
    try {
      return await pRetry(() => once(request), {
        retries,
        minTimeout: firstRetryMs,
        randomize: true,
        // An ERP that only hangs is not waited for again and again.
        maxRetryTime: 1.5 * timeoutMs,
        signal: request.signal,
      })
    } catch (error) {
      if (error instanceof Unfinished) return error.result
      if (request.signal.aborted) return unavailable('stopped before an answer came')
      return unavailable(`could not be asked: ${messageOf(error)}`)
    }
  }

  return {
    origin: base.origin,
    source: createHash('sha256')
      .update(JSON.stringify(['http', base.href, siteKey ?? null]))
      .digest('hex')
      .slice(0, 32),
    types,
    mostSkus,
    async page(request) {
      for (;;) {
        const result = await tried(request)
        if (result.kind !== 'too-long') return result
        if (limit === 1) return unusable(`${paths[request.type]}: one record has more than ${maxPageBytes} bytes`)
        limit = Math.ceil(limit / 2)
      }
    },
  }
}

const words = {
  open: 'it failed again and again, so it is left alone for a while',
  asked: 'it asks to be left alone for a while',
  busy: 'others take all the calls that it may get',
  stopped: 'stopped before it was asked',
} as const

/** What others have to know about how a call went. */
function outcomeOf(result: JsonResult<unknown>): TurnOutcome {
  if (result.kind === 'answer') return { kind: 'answered' }
  if (result.kind === 'none') {
    // What never left us, and what came and was too much, are no failures of the ERP.
    if (result.why === 'too-long') return { kind: 'answered' }
    const isOurs = result.cause === 'aborted' || result.cause === 'refused' || result.cause === 'unusable'
    return { kind: isOurs ? 'unknown' : 'failed' }
  }
  const { statusCode, retryAfterMs } = result
  const kind = statusCode >= 500 || statusCode < 300 ? 'failed' : 'answered'
  const asked = asksToWait.includes(statusCode) && retryAfterMs !== null
  return asked ? { kind, askedMs: retryAfterMs } : { kind }
}
