import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { createHttpErp, type HttpErpConfig } from '../../src/clients/erp/http.ts'
import type { ErpTurn } from '../../src/clients/erp/turns.ts'
import { createGuard } from '../../src/clients/guard.ts'
import { createJsonCaller, type JsonCaller } from '../../src/clients/json-call.ts'
import { createDatabase, type Database } from '../../src/db/client.ts'
import { createLines } from '../../src/processors/sync/lines.ts'
import { createErpTurns } from '../../src/processors/sync/turns.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { startErp, type Erp } from '../fixtures/erp.ts'

let database: TestDatabase
let other: Database
let caller: JsonCaller
let erp: Erp
beforeAll(async () => {
  database = await createTestDatabase()
  other = createDatabase({ url: database.url })
})
afterAll(async () => {
  await other.close()
  await database.drop()
})
beforeEach(async () => {
  await database.db.execute(sql`TRUNCATE website_worker.erp_origins, website_worker.erp_calls`)
  erp = await startErp()
  caller = createJsonCaller({ guard: createGuard({ allowCidrs: ['127.0.0.1/32'] }), timeoutMs: 10_000 })
})
afterEach(async () => {
  await caller.close()
  await erp.close()
})

const { signal } = new AbortController()
const origin = 'https://erp.example'
const limits = { maxConcurrent: 4, requestsPerSecond: 1_000 }
const enter = (turns: ReturnType<typeof createErpTurns>, most = limits, stop = signal) =>
  turns.enter(origin, most, { callMs: 10_000, signal: stop })
async function go(turn: Promise<ErpTurn>) {
  const given = await turn
  if (given.kind !== 'go') throw new Error(given.why)
  return given
}
/** An ERP as one of several processes calls it. */
const openErp = (db: Database['db'], config: Partial<HttpErpConfig> = {}) =>
  createHttpErp(
    { url: erp.url, limits, ...config },
    { caller, turns: createErpTurns({ db }), redact: (text) => text, userAgent: 'website-worker/1', firstRetryMs: 1 },
  )
const page = (connector: ReturnType<typeof openErp>) => connector.page({ type: 'product', siteId: 1, runId: 1, signal })

describe('calls to an ERP', () => {
  test('are never more than may be at a time, over all processes, and all get their turn', async () => {
    erp.products.fill(3, (n) => ({ id: n, sku: `S-${n}`, name: 'x', price: '1' }))
    // The first ones are answered once as many are there as may be.
    let fill = () => {}
    const full = new Promise<void>((resolve) => (fill = resolve))
    erp.onRequest(async ({ n }) => {
      if (n === 4) fill()
      await full
      return { delayMs: 15 }
    })
    const processes = [openErp(database.db), openErp(other.db), openErp(other.db)]
    const pages = await Promise.all(Array.from({ length: 30 }, (_, n) => page(processes[n % 3]!)))
    expect(pages.every(({ kind }) => kind === 'page')).toBe(true)
    expect(erp.mostInFlight).toBe(4)
    expect(erp.requests).toHaveLength(30)
  })

  test('wait together when it asks to be left alone', async () => {
    erp.products.fill(1, (n) => ({ id: n, sku: `S-${n}`, name: 'x', price: '1' }))
    const at: number[] = []
    erp.onRequest(({ n }) => {
      at.push(performance.now())
      return n === 1 ? { status: 429, headers: { 'retry-after': '1' } } : 'serve'
    })
    const first = page(openErp(database.db))
    await vi.waitFor(async () => {
      const parked = sql`SELECT FROM website_worker.erp_origins WHERE open_until IS NOT NULL`
      expect((await database.db.execute(parked)).rowCount).toBe(1)
    })
    expect(await Promise.all([first, page(openErp(other.db))])).toMatchObject([{ kind: 'page' }, { kind: 'page' }])
    expect(at).toHaveLength(3)
    expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(1_000)
  })

  test('end once it only fails, for every process', async () => {
    erp.onRequest(() => ({ status: 500 }))
    const one = openErp(database.db)
    while (erp.requests.length < 8) await page(one)
    const called = erp.requests.length
    expect(await page(openErp(other.db))).toMatchObject({
      kind: 'unavailable',
      isBreakerOpen: true,
      retryAfterMs: expect.any(Number),
    })
    expect(erp.requests).toHaveLength(called)
  })
})

describe('a turn', () => {
  test('that is given back goes to who has waited longest in the process', async () => {
    const turns = createErpTurns({ db: database.db })
    const one = { ...limits, maxConcurrent: 1 }
    const first = await go(enter(turns, one))
    const order: number[] = []
    const rest = [1, 2, 3].map(async (n) => {
      const turn = await go(enter(turns, one))
      order.push(n)
      await turn.leave({ kind: 'answered' })
    })
    await first.leave({ kind: 'answered' })
    await Promise.all(rest)
    expect(order).toEqual([1, 2, 3])
  })

  test('is waited for only so long, in line and at its head', async () => {
    const turns = createErpTurns({ db: database.db, patienceMs: 40 })
    const one = { ...limits, maxConcurrent: 1 }
    const first = await go(enter(turns, one))
    const rest = await Promise.all([enter(turns, one), enter(turns, one), enter(turns, one)])
    expect(rest).toMatchObject([1, 2, 3].map(() => ({ kind: 'wait', why: 'busy' })))
    await first.leave({ kind: 'answered' })
    await (await go(enter(turns, one))).leave({ kind: 'answered' })
  })

  test('that was asked for by a run that stops is not waited for', async () => {
    const turns = createErpTurns({ db: database.db, patienceMs: 600_000 })
    const one = { ...limits, maxConcurrent: 1 }
    const held = await go(enter(turns, one))
    const stop = new AbortController()
    const rest = [enter(turns, one, stop.signal), enter(turns, one, stop.signal)]
    stop.abort()
    expect(await Promise.all([...rest, enter(turns, one, stop.signal)])).toEqual(
      [1, 2, 3].map(() => ({ kind: 'wait', why: 'stopped', ms: 0 })),
    )
    await held.leave({ kind: 'answered' })
    await (await go(enter(turns, one))).leave({ kind: 'answered' })
  })

  test('of a process that was killed lapses by itself', async () => {
    const turns = createErpTurns({ db: database.db })
    const one = { ...limits, maxConcurrent: 1 }
    const lost = await go(turns.enter(origin, one, { callMs: -4_990, signal }))
    const next = await go(enter(turns, one))
    // It comes back to life: the place is another's now.
    await lost.leave({ kind: 'answered' })
    expect(await enter(createErpTurns({ db: other.db, patienceMs: 1 }), one)).toMatchObject({ why: 'busy' })
    await next.leave({ kind: 'answered' })
  })

  test('is given back without an error when the database is away', async () => {
    const closing = createDatabase({ url: database.url })
    const turn = await go(enter(createErpTurns({ db: closing.db })))
    await closing.close()
    await turn.leave({ kind: 'answered' })
  })
})

test('a line forgets names that nobody waits for, and lets in whoever is next when one gives up', async () => {
  const lines = createLines()
  const first = await lines.enter('a', 1_000, signal)
  const impatient = lines.enter('a', 1, signal)
  const patient = lines.enter('a', 600_000, signal)
  expect(await impatient).toBeNull()
  first!()
  first!()
  const second = await patient
  const third = lines.enter('a', 600_000, signal)
  second!()
  ;(await third)!()
  expect(await lines.enter('a', 1, signal)).toBeTypeOf('function')
})
