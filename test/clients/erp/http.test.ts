import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createHttpErp, maxPageBytes, type HttpErpConfig, type HttpErpDeps } from '../../../src/clients/erp/http.ts'
import type { ErpPageRequest, ErpPageResult } from '../../../src/clients/erp/connector.ts'
import type { ErpTurn, ErpTurns, TurnOutcome } from '../../../src/clients/erp/turns.ts'
import { createGuard } from '../../../src/clients/guard.ts'
import { createJsonCaller, type JsonCaller } from '../../../src/clients/json-call.ts'
import { startErp, type Erp } from '../../fixtures/erp.ts'

let erp: Erp
let caller: JsonCaller
let outcomes: TurnOutcome[]
const openCaller = (maxBytes = maxPageBytes) =>
  createJsonCaller({
    guard: createGuard({
      allowCidrs: ['127.0.0.1/32'],
      resolve: () => Promise.reject(Object.assign(new Error('no such host'), { code: 'ENOTFOUND' })),
    }),
    timeoutMs: 10_000,
    maxBytes,
  })
beforeEach(async () => {
  erp = await startErp({ token: 'erp-token-1' })
  caller = openCaller()
  outcomes = []
})
afterEach(async () => {
  await caller.close()
  await erp.close()
})

const turns: ErpTurns = {
  enter: () =>
    Promise.resolve({
      kind: 'go',
      leave: (outcome) => {
        outcomes.push(outcome)
        return Promise.resolve()
      },
    } satisfies ErpTurn),
}
const open = (config: Partial<HttpErpConfig> = {}, deps: Partial<HttpErpDeps> = {}) =>
  createHttpErp(
    {
      url: erp.url,
      token: 'erp-token-1',
      pageSize: 10,
      limits: { maxConcurrent: 4, requestsPerSecond: 10 },
      ...config,
    },
    { caller, turns, redact: (text) => text, userAgent: 'website-worker/1', firstRetryMs: 1, ...deps },
  )
const request = (rest: Partial<ErpPageRequest> = {}): ErpPageRequest => ({
  type: 'product',
  siteId: 3,
  runId: 7,
  signal: new AbortController().signal,
  ...rest,
})
const product = (n: number) => ({ id: n, sku: `S-${n}`, name: `Product ${n}`, price: '1.00' })
function pageOf(result: ErpPageResult) {
  if (result.kind !== 'page') throw new Error(JSON.stringify(result))
  return result
}
const skusOf = (result: ErpPageResult) => pageOf(result).records.products.map(({ sku }) => sku)

describe('pages', () => {
  test('are walked to the end, each asked for once, and say where the next traversal begins', async () => {
    erp.products.fill(25, product)
    const connector = open({ url: `${erp.url}/?tenant=3`, siteKey: 'shop/a' })
    const skus: string[] = []
    let cursor: string | undefined
    let checkpoint: string | undefined
    do {
      const page = pageOf(await connector.page(request({ cursor })))
      skus.push(...page.records.products.map(({ sku }) => sku))
      checkpoint ??= page.checkpoint
      // Changes meanwhile come with the next traversal.
      if (!cursor) erp.products.change('3', { name: 'Changed' })
      cursor = page.nextCursor ?? undefined
    } while (cursor)
    expect(skus).toHaveLength(25)
    expect(new Set(skus).size).toBe(25)
    expect([...erp.timesAsked().values()]).toEqual([1, 1, 1])
    expect(erp.requests[0]).toMatchObject({
      limit: 10,
      site: 'shop/a',
      since: null,
      headers: { authorization: 'Bearer erp-token-1', 'user-agent': 'website-worker/1 (site=3; run=7)' },
    })
    const changed = pageOf(await connector.page(request({ since: checkpoint, runId: 8 })))
    expect(changed.records.products.map(({ name }) => name)).toEqual(['Changed'])
    expect(changed.nextCursor).toBeNull()
    expect(outcomes.every(({ kind }) => kind === 'answered')).toBe(true)
  })

  test('hold only what was asked for, whatever SKUs are made of', async () => {
    const skus = ['A', 'B,C', 'D&E=F', 'Ü +/%', '"', "'(*)!~"]
    for (const [id, sku] of [...skus, 'B', 'C'].entries()) erp.products.set({ ...product(id), sku })
    const result = await open().page(request({ skus }))
    expect(skusOf(result)).toEqual(skus)
    erp.inventory.set({ sku: 'A', quantity: 3 })
    erp.prices.set({ sku: 'A', price: '2.50' })
    expect(pageOf(await open().page(request({ type: 'inventory', skus: ['A'] }))).records.levels).toMatchObject([
      { sku: 'A', quantity: 3 },
    ])
    expect(pageOf(await open().page(request({ type: 'price' }))).records.prices).toMatchObject([{ price: '2.50' }])
  })

  test('that are too long are asked for in smaller pieces, down to one record', async () => {
    await caller.close()
    caller = openCaller(60_000)
    erp.products.fill(8, (n) => ({ ...product(n), description: 'x'.repeat(n === 5 ? 70_000 : 12_000) }))
    const connector = open()
    const first = await connector.page(request())
    expect(skusOf(first)).toEqual(['S-0', 'S-1', 'S-2'])
    const { nextCursor } = pageOf(first)
    const second = await connector.page(request({ cursor: nextCursor! }))
    expect(skusOf(second)).toEqual(['S-3', 'S-4'])
    expect(await connector.page(request({ cursor: pageOf(second).nextCursor! }))).toMatchObject({
      kind: 'unusable',
      error: expect.stringContaining('products: one record has more than'),
    })
    expect(erp.requests.map(({ limit }) => limit)).toEqual([10, 5, 3, 3, 2, 2, 1])
  })

  test('with something wrong in them are taken without it, and hold no secret', async () => {
    erp.products.fill(2, product)
    erp.products.raw('9', { ...product(9), price: '-1', name: 'erp-token-1', version: 1 })
    const { records } = pageOf(await open().page(request()))
    expect(records.products).toHaveLength(2)
    expect(records.rejects).toMatchObject([{ erpId: '9', snapshot: { name: '[redacted]' } }])
  })
})

describe('an ERP that fails for a moment', () => {
  test('is asked again', async () => {
    erp.products.fill(2, product)
    erp.onRequest(({ n }) => (['drop', 'half', { status: 500 }] as const)[n - 1] ?? 'serve')
    expect(skusOf(await open().page(request()))).toEqual(['S-0', 'S-1'])
    expect(outcomes.map(({ kind }) => kind)).toEqual(['failed', 'failed', 'failed', 'answered'])
  })

  test.each([
    ['drop', 'before an answer came'],
    ['cut', 'before the answer was complete'],
    ['half', 'answered 200, but the answer is not JSON'],
    [
      { status: 500, body: 'out of memory, erp-token-1' },
      'answered 500 Internal Server Error: out of memory, [redacted]',
    ],
    [{ status: 408 }, 'answered 408'],
    [{ status: 429 }, 'answered 429'],
    [{ status: 200, body: '<html>' }, 'not JSON'],
    [{ status: 200, body: '' }, 'the answer is empty'],
  ] as const)('with %j again and again is left for later', async (mood, words) => {
    erp.onRequest(() => mood)
    expect(await open().page(request())).toEqual({
      kind: 'unavailable',
      error: expect.stringContaining(words),
      retryAfterMs: null,
      isBreakerOpen: false,
    })
    expect(erp.requests).toHaveLength(5)
  })

  test('or never answers is not waited for again and again', async () => {
    erp.onRequest(() => 'hang')
    const result = await open({}, { timeoutMs: 60 }).page(request())
    expect(result).toMatchObject({ kind: 'unavailable', error: 'timed out after 0.06 s while waiting for an answer' })
    expect(erp.requests.length).toBeLessThanOrEqual(2)
  })

  test('says how long it wants to be left alone, in seconds or as a date; others hear of it', async () => {
    erp.onRequest(() => ({ status: 429, headers: { 'retry-after': '60' } }))
    const after = await open().page(request())
    expect(after).toMatchObject({ kind: 'unavailable', retryAfterMs: 60_000 })
    erp.onRequest(() => ({ status: 503, headers: { 'retry-after': new Date(Date.now() + 100_000).toUTCString() } }))
    const until = (await open().page(request())) as { retryAfterMs: number }
    expect(until.retryAfterMs).toBeGreaterThan(60_000)
    expect(until.retryAfterMs).toBeLessThanOrEqual(100_000)
    expect(erp.requests).toHaveLength(2)
    expect(outcomes).toMatchObject([
      { kind: 'answered', askedMs: 60_000 },
      { kind: 'failed', askedMs: until.retryAfterMs },
    ])
    // Longer than an hour is taken for a mistake.
    erp.onRequest(() => ({ status: 503, headers: { 'retry-after': '999999' } }))
    expect(await open().page(request())).toMatchObject({ retryAfterMs: 3_600_000 })
  })

  test('is waited for when that is short', async () => {
    erp.products.fill(1, product)
    erp.onRequest(({ n }) => (n === 1 ? { status: 429, headers: { 'retry-after': '3' } } : 'serve'))
    expect(skusOf(await open().page(request()))).toEqual(['S-0'])
    expect(outcomes).toEqual([{ kind: 'answered', askedMs: 3_000 }, { kind: 'answered' }])
  })
})

describe('what can never work ends after one call', () => {
  test.each([400, 401, 403, 404, 405, 414, 422, 301, 307])('answered %i', async (status) => {
    erp.onRequest(() => ({ status, headers: { location: erp.url } }))
    expect(await open().page(request())).toMatchObject({
      kind: 'unusable',
      error: expect.stringContaining(`answered ${status}`),
    })
    expect(erp.requests).toHaveLength(1)
  })

  test('a wrong token', async () => {
    expect(await open({ token: 'wrong-token' }).page(request())).toMatchObject({
      kind: 'unusable',
      error: 'answered 401 Unauthorized: {"error":"wrong token"}',
    })
    expect(erp.requests).toHaveLength(1)
  })

  test.each([
    ['http://10.1.2.3/erp', 'refused by the outbound guard: 10.1.2.3'],
    ['http://erp.example/', 'host not found: erp.example'],
  ])('%s', async (url, words) => {
    expect(await open({ url }).page(request())).toMatchObject({
      kind: 'unusable',
      error: expect.stringContaining(words),
    })
    expect(outcomes).toHaveLength(1)
  })

  test.each([
    ['[]', 'products: the answer is no page of records: it is no object'],
    ['{"error":"no"}', 'items must be a list'],
    ['{"items":[],"checkpoint":"1"}', 'nextCursor must be a text, or null after the last page'],
    ['{"items":[],"nextCursor":"","checkpoint":"1"}', 'nextCursor must be a text'],
    ['{"items":[],"nextCursor":null}', 'checkpoint must be a text'],
    ['{"items":[],"nextCursor":null,"checkpoint":"\\u0000"}', 'checkpoint must be a text of 1 to 2000'],
    [`{"items":[],"nextCursor":null,"checkpoint":"${'x'.repeat(3_000)}"}`, 'checkpoint must be a text of 1 to 2000'],
  ])('an answer like %.40s', async (body, words) => {
    erp.onRequest(() => ({ status: 200, body }))
    expect(await open().page(request())).toMatchObject({ kind: 'unusable', error: expect.stringContaining(words) })
    expect(erp.requests).toHaveLength(1)
  })

  test('pages that never end', async () => {
    const next = new Map([
      ['', 'a'],
      ['a', 'b'],
      ['b', 'c'],
      ['c', 'a'],
      ['d', 'd'],
    ])
    erp.onRequest(({ cursor }) => ({
      status: 200,
      body: JSON.stringify({ items: [], nextCursor: next.get(cursor ?? ''), checkpoint: '1' }),
    }))
    const connector = open()
    for (const cursor of [undefined, 'a', 'b', 'b'])
      expect(await connector.page(request({ cursor }))).toMatchObject({ kind: 'page' })
    expect(await connector.page(request({ cursor: 'c' }))).toMatchObject({
      kind: 'unusable',
      error: expect.stringContaining('go round in a circle'),
    })
    expect(await connector.page(request({ cursor: 'd' }))).toMatchObject({
      kind: 'unusable',
      error: expect.stringContaining('it has no end'),
    })
    // Another traversal, or the same from the start, may well have the same cursors.
    expect(await connector.page(request({ cursor: 'c', runId: 8 }))).toMatchObject({ kind: 'page' })
    expect(await connector.page(request({ runId: 8 }))).toMatchObject({ kind: 'page' })
    expect(await connector.page(request({ cursor: 'c', runId: 8 }))).toMatchObject({ kind: 'unusable' })
  })
})

test('a checkpoint or cursor of before says that everything has to be read', async () => {
  erp.products.fill(30, product)
  const { checkpoint, nextCursor } = pageOf(await open().page(request()))
  erp.products.expire()
  expect(await open().page(request({ since: checkpoint }))).toEqual({ kind: 'expired' })
  expect(await open().page(request({ cursor: nextCursor! }))).toEqual({ kind: 'expired' })
})

describe('turns', () => {
  const giving = (turn: ErpTurn): Partial<HttpErpDeps> => ({ turns: { enter: () => Promise.resolve(turn) } })

  test.each(['open', 'asked', 'busy', 'stopped'] as const)('without one (%s) the ERP is not asked', async (why) => {
    expect(await open({}, giving({ kind: 'wait', why, ms: 5_000 })).page(request())).toMatchObject({
      kind: 'unavailable',
      retryAfterMs: 5_000,
      isBreakerOpen: why === 'open',
    })
    expect(erp.requests).toHaveLength(0)
  })

  test('that nobody can give are asked for a few times', async () => {
    let times = 0
    const away: ErpTurns = {
      enter: () => {
        times++
        return Promise.reject(new Error('connection refused'))
      },
    }
    expect(await open({}, { turns: away }).page(request())).toMatchObject({
      kind: 'unavailable',
      error: 'could not be asked: connection refused',
    })
    expect(times).toBe(5)
  })

  test('are given back, and say nothing, when the run is stopped', async () => {
    const stop = new AbortController()
    erp.onRequest(() => {
      stop.abort()
      return 'hang'
    })
    expect(await open().page(request({ signal: stop.signal }))).toMatchObject({ kind: 'unavailable' })
    expect(outcomes).toEqual([{ kind: 'unknown' }])
    expect(await open().page(request({ signal: stop.signal }))).toMatchObject({ kind: 'unavailable' })
    expect(erp.requests).toHaveLength(1)
  })
})

test('checkpoints mean something to the same ERP and site alone', () => {
  const sources = [{}, { siteKey: 'a' }, { url: `${erp.url}/v2` }, { siteKey: 'b' }].map((each) => open(each).source)
  expect(new Set(sources).size).toBe(4)
  expect(open({ token: 'another', pageSize: 3 }).source).toBe(sources[0])
  expect(open().origin).toBe(new URL(erp.url).origin)
})
