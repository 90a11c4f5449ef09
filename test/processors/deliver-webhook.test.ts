import { sql } from 'drizzle-orm'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'
import { body, secret, webhookBench, type WebhookBench } from './webhook-fixtures.ts'

let bench: WebhookBench
let receiver: Receiver
beforeAll(async () => {
  bench = await webhookBench()
})
afterAll(() => bench.close())
beforeEach(async () => {
  receiver = await startReceiver()
})
afterEach(() => receiver.close())

async function owed(values: Partial<Parameters<WebhookBench['webhook']>[0]> = {}) {
  const webhookId = await bench.webhook({ targetUrl: `${receiver.url}/hook`, ...values })
  return { webhookId, ...(await bench.delivery(webhookId)) }
}

describe('a delivery', () => {
  test('arrives signed, byte for byte, and is recorded as delivered', async () => {
    receiver.answer(() => ({ status: 201, body: 'thanks' }))
    const { deliveryId, eventId, webhookId } = await owed()
    expect(await bench.run(deliveryId)).toMatchObject({ kind: 'done' })

    const [request] = receiver.requests
    expect(request?.body.toString()).toBe(body)
    expect(request?.headers).toMatchObject({ 'webhook-id': eventId, 'content-type': 'application/json' })
    expect(new Webhook(secret).verify(request?.body ?? '', request?.headers as Record<string, string>)).toEqual(
      JSON.parse(body),
    )

    expect(await bench.ledger(deliveryId)).toMatchObject({
      attempts: 1,
      statusCode: 201,
      responseBody: 'thanks',
      errorMessage: null,
    })
    const [row] = await bench.rows(
      sql`SELECT extract(epoch FROM now() AT TIME ZONE 'UTC' - delivered_at)::float AS age FROM website_webhook_deliveries WHERE id = ${deliveryId}`,
    )
    expect(row).toEqual({ age: expect.closeTo(0, -1) })
    expect(await bench.attempts(deliveryId)).toMatchObject([
      { attempt: 1, status_code: 201, error: null, trigger: 'event' },
    ])
    expect(await bench.health(webhookId)).toMatchObject({
      failingSince: null,
      lastSuccessAt: expect.any(Date),
      lastFailureAt: null,
    })
  })

  test('is signed with every secret during a rotation, at the time it is sent', async () => {
    const old = 'whsec_c2VjcmV0LW9mLXRoZS1vbGQtZGF5cw=='
    const { deliveryId } = await owed({ secret: `${secret} ${old}` })
    await bench.run(deliveryId)
    const [request] = receiver.requests
    const headers = request?.headers as Record<string, string>
    for (const each of [secret, old]) new Webhook(each).verify(request?.body ?? '', headers)
    expect(() => new Webhook('whsec_b3RoZXI=').verify(request?.body ?? '', headers)).toThrow('No matching signature')

    const later = await owed()
    await bench.run(later.deliveryId, { now: () => new Date('2030-01-01T00:00:00.999Z') })
    expect(receiver.requests[1]?.headers['webhook-timestamp']).toBe('1893456000')
  })

  test('carries custom headers, but not in place of ours', async () => {
    const headers = {
      'X-Shop': 'seven',
      'Webhook-Id': 'forged',
      Host: 'evil',
      'Content-Length': '1',
      'X-Bad': 'a\r\nb: c',
      'X-List': [1],
    }
    const { deliveryId, eventId } = await owed({ headers })
    receiver.answer(() => ({ status: 500 }))
    await bench.run(deliveryId)
    const sent = receiver.requests[0]?.headers
    expect(sent).toMatchObject({ 'x-shop': 'seven', 'webhook-id': eventId, host: `127.0.0.1:${receiver.port}` })
    expect(sent).not.toHaveProperty('x-bad')
    const words = (await bench.ledger(deliveryId))?.errorMessage
    expect(words).toContain('custom headers left out:')
    for (const name of ['"Webhook-Id"', '"Host"', '"Content-Length"', '"X-Bad"', '"X-List"'])
      expect(words).toContain(name)
  })

  test('that fails is tried again, with words for what happened, and then delivered', async () => {
    receiver.answer((_, n) => (n === 1 ? { status: 503, body: 'busy' } : n === 2 ? 'reset' : { status: 200 }))
    const { deliveryId, webhookId } = await owed()

    expect(await bench.run(deliveryId)).toMatchObject({ kind: 'retry', error: 'answered 503 Service Unavailable' })
    expect(await bench.ledger(deliveryId)).toMatchObject({
      attempts: 1,
      statusCode: 503,
      responseBody: 'busy',
      deliveredAt: null,
      errorMessage: 'answered 503 Service Unavailable; next attempt at 2025-03-01 12:05:00 UTC',
    })
    const failingSince = (await bench.health(webhookId))?.failingSince
    expect(failingSince).toBeInstanceOf(Date)

    expect(await bench.run(deliveryId, { attempt: 2, trigger: 'schedule' })).toMatchObject({
      kind: 'retry',
      error: 'connection reset before an answer came',
    })
    expect(await bench.ledger(deliveryId)).toMatchObject({
      attempts: 2,
      statusCode: null,
      responseBody: null,
      deliveredAt: null,
    })
    expect((await bench.health(webhookId))?.failingSince).toEqual(failingSince)

    expect(await bench.run(deliveryId, { attempt: 3, trigger: 'schedule' })).toMatchObject({ kind: 'done' })
    expect(await bench.ledger(deliveryId)).toMatchObject({
      attempts: 3,
      statusCode: 200,
      errorMessage: null,
      deliveredAt: expect.any(Date),
    })
    expect(await bench.health(webhookId)).toMatchObject({ failingSince: null, lastFailureAt: expect.any(Date) })
    expect(await bench.attempts(deliveryId)).toMatchObject([
      { attempt: 1, status_code: 503, error: 'answered 503 Service Unavailable', trigger: 'event' },
      { attempt: 2, status_code: null, error: 'connection reset before an answer came', trigger: 'schedule' },
      { attempt: 3, status_code: 200, error: null },
    ])
  })

  test('is given up in words after its last attempt', async () => {
    receiver.answer(() => ({ status: 500 }))
    const { deliveryId } = await owed()
    await bench.run(deliveryId, { attempt: 10, outOfAttempts: true })
    const words = 'answered 500 Internal Server Error; gave up after 10 attempts'
    expect(await bench.ledger(deliveryId)).toMatchObject({ errorMessage: words, deliveredAt: null })
  })

  test.each([
    ['sooner than the schedule', '10', 300_000],
    ['later than the schedule', '3600', 3_600_000],
    ['beyond a day', '999999', 86_400_000],
  ])('waits as Retry-After asks, here %s', async (_, value, waitMs) => {
    receiver.answer(() => ({ status: 429, headers: { 'retry-after': value } }))
    const { deliveryId } = await owed()
    const at = new Date('2025-03-01T12:00:00Z')
    const outcome = await bench.run(deliveryId, { attempt: 2, now: () => at, random: () => 0.5 })
    const duration = outcome.record?.attempt?.sent?.durationMs ?? 0
    expect(outcome).toMatchObject({ kind: 'retry', at: new Date(at.getTime() + duration + waitMs) })
    const words = `answered 429 Too Many Requests; next attempt at ${new Date(at.getTime() + duration + waitMs).toISOString().slice(0, 10)}`
    expect((await bench.ledger(deliveryId))?.errorMessage).toContain(words)
  })

  test('stores an answer that PostgreSQL could not', async () => {
    receiver.answer(() => ({ status: 200, body: Buffer.from([0x6f, 0x6b, 0x00, 0xc3, 0x28]) }))
    const { deliveryId } = await owed()
    await bench.run(deliveryId)
    expect(await bench.ledger(deliveryId)).toMatchObject({ responseBody: 'ok\uFFFD\uFFFD(', statusCode: 200 })
  })
})

describe('nothing is sent', () => {
  async function expectUnsent(deliveryId: number, words: string) {
    expect(await bench.run(deliveryId)).toMatchObject({ kind: 'failed', error: words })
    expect(await bench.ledger(deliveryId)).toMatchObject({
      attempts: 0,
      statusCode: null,
      errorMessage: words,
      deliveredAt: null,
    })
    expect(await bench.attempts(deliveryId)).toEqual([])
    expect(receiver.requests).toEqual([])
  }

  test('with a secret that nobody could verify', async () => {
    const { deliveryId } = await owed({ secret: 'whsec_not-base64' })
    await expectUnsent(deliveryId, 'the webhook secret is not valid base64 after whsec_')
  })

  test('to a webhook that its owner switched off', async () => {
    const { deliveryId } = await owed({ isActive: false })
    await expectUnsent(deliveryId, 'the webhook is switched off')
  })

  test('once the payload is pruned, or when there never was an event', async () => {
    const webhookId = await bench.webhook({ targetUrl: receiver.url })
    const pruned = await bench.delivery(webhookId, { body: null })
    await expectUnsent(pruned.deliveryId, "the event's payload was removed after its retention period")
    const unknown = await bench.delivery(webhookId, { stored: false })
    await expectUnsent(unknown.deliveryId, 'the event is no longer stored')
  })

  test('once the webhook is gone', async () => {
    const { deliveryId, webhookId } = await owed()
    await bench.rows(sql`DELETE FROM website_webhooks WHERE id = ${webhookId}`)
    expect(await bench.run(deliveryId)).toEqual({
      kind: 'failed',
      error: 'the delivery was deleted, with or without its webhook',
    })
  })

  test('twice, unless someone asks for it', async () => {
    const { deliveryId } = await owed()
    await bench.run(deliveryId)
    const before = await bench.ledger(deliveryId)
    for (const trigger of ['event', 'schedule', 'discovery']) {
      expect(await bench.run(deliveryId, { trigger })).toEqual({ kind: 'done' })
    }
    expect(receiver.requests).toHaveLength(1)
    expect(await bench.ledger(deliveryId)).toEqual(before)
  })
})

test('a replay sends again and never takes a delivery back', async () => {
  const { deliveryId } = await owed()
  await bench.run(deliveryId)
  const before = await bench.ledger(deliveryId)

  receiver.answer(() => ({ status: 500 }))
  expect(await bench.run(deliveryId, { trigger: 'replay' })).toMatchObject({ kind: 'retry' })
  expect(await bench.ledger(deliveryId)).toMatchObject({
    attempts: 2,
    statusCode: 500,
    deliveredAt: before?.deliveredAt,
  })

  receiver.answer(() => ({ status: 200 }))
  expect(await bench.run(deliveryId, { trigger: 'retry' })).toMatchObject({ kind: 'done' })
  expect(await bench.ledger(deliveryId)).toMatchObject({
    attempts: 3,
    errorMessage: null,
    deliveredAt: before?.deliveredAt,
  })
  expect((await bench.attempts(deliveryId)).map((each) => each.trigger)).toEqual(['event', 'replay', 'retry'])
})

test('a target the guard refuses ends the delivery at once, in words', async () => {
  const { deliveryId } = await owed({ targetUrl: 'http://[::1]:1/' })
  const words = 'refused by the outbound guard: ::1 is a loopback address'
  expect(await bench.run(deliveryId)).toMatchObject({ kind: 'failed', error: words })
  expect(await bench.ledger(deliveryId)).toMatchObject({ attempts: 1, statusCode: null, errorMessage: words })
})

describe('410 Gone', () => {
  test('switches the webhook off with an audit row; what follows is held until its owner switches it on', async () => {
    receiver.answer(() => ({ status: 410 }))
    const { webhookId, deliveryId } = await owed({ name: 'Old shop' })
    const second = await bench.delivery(webhookId)
    const third = await bench.delivery(webhookId)
    // Two at once are switched off once.
    const outcomes = await bench.runAll([deliveryId, second.deliveryId])
    const words = 'answered 410 Gone: it wants no more events, so the webhook was disabled'
    for (const outcome of outcomes) expect(outcome).toMatchObject({ kind: 'failed', error: words })
    expect(await bench.ledger(deliveryId)).toMatchObject({ statusCode: 410, errorMessage: words })
    expect(await bench.rows(sql`SELECT is_active FROM website_webhooks WHERE id = ${webhookId}`)).toEqual([
      { is_active: false },
    ])
    expect(await bench.health(webhookId)).toMatchObject({
      disabledAt: expect.any(Date),
      disabledReason: 'answered 410 Gone',
    })
    const audit = sql`SELECT site_id, user_id, action, resource_type, resource_name, changes FROM website_audit_logs WHERE resource_id = ${webhookId}`
    expect(await bench.rows(audit)).toEqual([
      {
        site_id: bench.siteId,
        user_id: null,
        action: 'webhook.disabled',
        resource_type: 'webhook',
        resource_name: 'Old shop',
        changes: { isActive: { from: true, to: false }, reason: 'answered 410 Gone' },
      },
    ])

    expect(await bench.run(third.deliveryId)).toMatchObject({ kind: 'held', reason: 'webhook disabled' })
    const held = 'held: the webhook was disabled: answered 410 Gone'
    expect(await bench.ledger(third.deliveryId)).toMatchObject({ attempts: 0, errorMessage: held })
    expect(receiver.requests).toHaveLength(2)

    receiver.answer(() => ({ status: 200 }))
    await bench.rows(sql`UPDATE website_webhooks SET is_active = true WHERE id = ${webhookId}`)
    expect(await bench.run(third.deliveryId)).toMatchObject({ kind: 'done' })
    expect(await bench.health(webhookId)).toMatchObject({ disabledAt: null, disabledReason: null, failingSince: null })
    expect(await bench.rows(audit)).toHaveLength(1)
  })
})

test('many runs, some good and some bad, are recorded together', async () => {
  const webhookIds: number[] = []
  for (const n of [1, 2, 3]) webhookIds.push(await bench.webhook({ targetUrl: `${receiver.url}/${n}` }))
  const deliveryIds: number[] = []
  for (let n = 0; n < 60; n++) deliveryIds.push((await bench.delivery(webhookIds[n % 3] ?? 0)).deliveryId)
  receiver.answer((request) => ({ status: request.path === '/2' ? 500 : 200, body: request.path }))
  await bench.runAll(deliveryIds)
  const summary = sql`SELECT d.webhook_id, count(*)::int AS rows, count(d.delivered_at)::int AS delivered, sum(d.attempts)::int AS attempts,
    min(d.response_body) AS body, count(a.id)::int AS logged
    FROM website_webhook_deliveries d JOIN website_worker.webhook_attempts a ON a.delivery_id = d.id
    WHERE d.webhook_id = ANY (${sql.param(webhookIds)}::int[]) GROUP BY 1 ORDER BY 1`
  expect(await bench.rows(summary)).toEqual(
    webhookIds.map((id, n) => ({
      webhook_id: id,
      rows: 20,
      delivered: n === 1 ? 0 : 20,
      attempts: 20,
      body: `/${n + 1}`,
      logged: 20,
    })),
  )
})
