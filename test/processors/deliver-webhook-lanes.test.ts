import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createBreaker } from '../../src/clients/breaker.ts'
import { createGate } from '../../src/clients/gate.ts'
import { openLanes } from '../../src/db/queries/lanes.ts'
import { lanesOf } from '../../src/processors/delivery-lanes.ts'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'
import { webhookBench, type WebhookBench } from './webhook-fixtures.ts'

let bench: WebhookBench
let receiver: Receiver
beforeAll(async () => {
  bench = await webhookBench()
})
afterAll(() => bench.close())
beforeEach(async () => {
  receiver = await startReceiver()
})
afterEach(async () => {
  await receiver.close()
  await bench.rows(sql`TRUNCATE website_worker.lanes, website_worker.lane_limits`)
})

async function owed(values: Partial<Parameters<WebhookBench['webhook']>[0]> = {}) {
  const webhookId = await bench.webhook({ targetUrl: `${receiver.url}/hook`, ...values })
  return { webhookId, ...(await bench.delivery(webhookId)) }
}
const lanes = () =>
  bench.rows<{ lane: string; window: number; opens: number; is_open: boolean }>(
    sql`SELECT lane, "window", opens, coalesce(open_until > now(), false) AS is_open FROM website_worker.lanes ORDER BY lane`,
  )
const change = (set: ReturnType<typeof sql>) => bench.rows(sql`UPDATE website_worker.lanes SET ${set}`)
const manage = () => openLanes(bench.db, [receiver.url])
/** No trace of it in the ledger. */
async function expectUntouched(deliveryId: number, before: unknown) {
  expect(await bench.ledger(deliveryId)).toEqual(before)
  expect(await bench.attempts(deliveryId)).toEqual([])
  expect(receiver.requests).toEqual([])
}
const full = async (origin: string) => {
  const gate = createGate({ capacity: 1, patienceMs: 1 })
  await gate.enter(origin)
  return gate
}

describe('a delivery waits in its lane, without an attempt or a trace in the ledger,', () => {
  test('when its origin has no place left', async () => {
    const { deliveryId } = await owed()
    const before = await bench.ledger(deliveryId)
    const outcome = await bench.run(deliveryId, { gate: await full(receiver.url) })
    expect(outcome).toMatchObject({ kind: 'parked', lane: receiver.url })
    await expectUntouched(deliveryId, before)
    expect(await lanes()).toEqual([{ lane: receiver.url, window: 4, opens: 0, is_open: false }])
  })

  test('when others wait there already, which says nothing of how much the origin takes', async () => {
    await manage()
    const { deliveryId } = await owed()
    const before = await bench.ledger(deliveryId)
    expect(await bench.run(deliveryId)).toEqual({ kind: 'parked', lane: receiver.url })
    await expectUntouched(deliveryId, before)
    expect(await lanes()).toMatchObject([{ window: 8 }])
  })

  test.each([
    ['the origin', true],
    ['all', false],
  ])('when a person limited %s', async (_, own) => {
    const lane = own ? receiver.url : '*'
    await bench.rows(sql`INSERT INTO website_worker.lane_limits (lane, max_concurrent) VALUES (${lane}, 3)`)
    const { deliveryId } = await owed()
    expect(await bench.run(deliveryId)).toEqual({ kind: 'parked', lane: receiver.url })
    expect(await bench.run(deliveryId, { lane: receiver.url })).toMatchObject({ kind: 'done' })
  })

  test('when its lane rang it and broke since', async () => {
    await manage()
    const { deliveryId } = await owed()
    const before = await bench.ledger(deliveryId)
    await change(sql`opens = 1, open_until = now() + interval '1 hour'`)
    expect(await bench.run(deliveryId, { lane: receiver.url })).toEqual({ kind: 'parked', lane: receiver.url })
    await expectUntouched(deliveryId, before)
    expect(await lanes()).toMatchObject([{ opens: 1, is_open: true }])
  })

  test('when its URL was edited to one where others wait', async () => {
    const { deliveryId, webhookId } = await owed()
    const other = 'http://127.0.0.1:1'
    await openLanes(bench.db, [other])
    await bench.rows(sql`UPDATE website_webhooks SET target_url = ${`${other}/`} WHERE id = ${webhookId}`)
    expect(await bench.run(deliveryId, { lane: receiver.url })).toEqual({ kind: 'parked', lane: other })
  })
})

describe('a delivery does not wait', () => {
  test('for a lane that it left, once its URL leads where no one waits', async () => {
    const { deliveryId } = await owed()
    await openLanes(bench.db, ['http://127.0.0.1:1'])
    expect(await bench.run(deliveryId, { lane: 'http://127.0.0.1:1' })).toMatchObject({ kind: 'done' })
    expect(await lanes()).toMatchObject([{ lane: 'http://127.0.0.1:1' }])
  })

  test('when it cannot be sent anyway', async () => {
    await manage()
    const off = await owed({ isActive: false })
    expect(await bench.run(off.deliveryId)).toMatchObject({ kind: 'failed', error: 'the webhook is switched off' })
    expect(await lanes()).toMatchObject([{ window: 8, opens: 0 }])
  })
})

describe('an attempt in a lane', () => {
  test('that was answered widens its window and closes its breaker; one that failed keeps its lane for the next', async () => {
    await manage()
    await change(sql`opens = 2, open_until = now() - interval '1 ms'`)
    receiver.answer((_, n) => ({ status: n === 1 ? 404 : 503 }))
    const first = await owed()
    const outcome = await bench.run(first.deliveryId, { lane: receiver.url })
    expect(outcome).toMatchObject({ kind: 'retry', lane: receiver.url })
    expect(await lanes()).toMatchObject([{ window: 9, opens: 0, is_open: false }])
    const second = await owed()
    expect(await bench.run(second.deliveryId, { lane: receiver.url })).toMatchObject({
      kind: 'retry',
      lane: receiver.url,
    })
    expect(await lanes(), 'one failure is not the last straw').toMatchObject([{ window: 9, opens: 0 }])
  })

  test('as a probe that fails opens the breaker again', async () => {
    await manage()
    await change(sql`opens = 2, open_until = now() - interval '1 ms'`)
    receiver.answer(() => 'reset')
    const { deliveryId } = await owed()
    expect(await bench.run(deliveryId, { lane: receiver.url })).toMatchObject({ kind: 'retry', lane: receiver.url })
    expect(await lanes()).toMatchObject([{ opens: 3, is_open: true }])
  })

  test('that a 410 ends tells that the origin is there', async () => {
    await manage()
    await change(sql`opens = 2, open_until = now() - interval '1 ms'`)
    receiver.answer(() => ({ status: 410 }))
    const { deliveryId } = await owed()
    expect(await bench.run(deliveryId, { lane: receiver.url })).toMatchObject({ kind: 'failed' })
    expect(await lanes()).toMatchObject([{ opens: 0, is_open: false }])
  })

  test('that the guard refused tells nothing', async () => {
    await openLanes(bench.db, ['http://[::1]:1'])
    await change(sql`opens = 2, open_until = now() - interval '1 ms'`)
    const { deliveryId } = await owed({ targetUrl: 'http://[::1]:1/' })
    expect(await bench.run(deliveryId, { lane: 'http://[::1]:1' })).toMatchObject({ kind: 'failed' })
    expect(await lanes()).toMatchObject([{ opens: 2, is_open: false }])
  })

  test('with a secret that nobody could verify gives its place back', async () => {
    const gate = createGate({ capacity: 1, patienceMs: 1 })
    const bad = await owed({ secret: 'whsec_not-base64' })
    const good = await owed()
    expect(await bench.run(bad.deliveryId, { gate })).toMatchObject({ kind: 'failed' })
    expect(await bench.run(good.deliveryId, { gate })).toMatchObject({ kind: 'done' })
  })
})

test('an origin that only fails breaks, though no one waited there, and the failed deliveries keep their attempts', async () => {
  receiver.answer(() => ({ status: 500 }))
  const breaker = createBreaker({ breaksAt: 2.9, lastsMs: 0 })
  const items = [await owed(), await owed(), await owed()]
  const ids = items.map(({ deliveryId }) => deliveryId)
  const outcomes = [
    await bench.run(ids[0]!, { breaker }),
    await bench.run(ids[1]!, { breaker }),
    await bench.run(ids[2]!, { breaker }),
  ]
  expect(outcomes.map(({ kind }) => kind)).toEqual(['retry', 'retry', 'retry'])
  expect(outcomes.map((outcome) => 'lane' in outcome)).toEqual([false, false, true])
  expect(await lanes()).toEqual([{ lane: receiver.url, window: 8, opens: 1, is_open: true }])
  for (const id of ids) expect(await bench.ledger(id)).toMatchObject({ attempts: 1 })
})

describe('the lanes of deliveries', () => {
  test('are their origins; an unusable URL is a lane of its own, and what goes nowhere has none', async () => {
    const usual = await owed()
    const odd = [await owed({ targetUrl: 'ftp://127.0.0.1/' }), await owed({ targetUrl: 'not a url' })]
    const off = await owed({ isActive: false })
    const items = [usual, ...odd, off].map(({ deliveryId }, n) => ({ workId: n, payload: { deliveryId } }))
    await openLanes(bench.db, [`webhook ${odd[1]!.webhookId}`])
    expect(Object.fromEntries(await lanesOf(bench.db, items))).toEqual({
      0: { lane: receiver.url, isManaged: false },
      1: { lane: 'ftp://127.0.0.1', isManaged: false },
      2: { lane: `webhook ${odd[1]!.webhookId}`, isManaged: true },
    })
  })

  test.each([
    ['one slash', (url: URL) => `http:/${url.host}/hook`],
    ['no slash', (url: URL) => `http:${url.host}/hook`],
    ['a space before it', (url: URL) => ` ${url.href}`],
    ['another spelling of the address', (url: URL) => `http://0x7f.1:${url.port}/hook`],
    ['an escaped dot', (url: URL) => `http://127%2e0.0.1:${url.port}/hook`],
  ])('are those of the address that is dialled, written with %s', async (_, spelled) => {
    await bench.rows(sql`INSERT INTO website_worker.lane_limits (lane, max_concurrent) VALUES (${receiver.url}, 3)`)
    const { deliveryId } = await owed({ targetUrl: spelled(new URL(receiver.url)) })
    const items = [{ workId: 7, payload: { deliveryId } }]
    expect([...(await lanesOf(bench.db, items))]).toEqual([[7, { lane: receiver.url, isManaged: true }]])
    expect(await bench.run(deliveryId)).toEqual({ kind: 'parked', lane: receiver.url })
    expect(await bench.run(deliveryId, { lane: receiver.url })).toMatchObject({ kind: 'done' })
  })
})
