import { sql } from 'drizzle-orm'
import { Webhook } from 'standardwebhooks'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'
import { createReplayStack, secret, type ReplayStack } from './replay-fixtures.ts'

let receiver: Receiver
let stack: ReplayStack
beforeEach(async () => {
  receiver = await startReceiver()
  stack = await createReplayStack(`${receiver.url}/hook`, ['ping-webhook'])
  stack.work()
  stack.dispatcher.start()
})
afterEach(async () => {
  await stack.close()
  await receiver.close()
})

async function ping() {
  const workId = await stack.ping()
  return vi.waitFor(async () => {
    const item = await stack.job(workId, 'ping-webhook')
    expect(item.finishedAt).not.toBeNull()
    return item
  }, 10_000)
}

test('sends one signed test message, and leaves no trace but its result', async () => {
  await stack.setWebhook({ headers: { 'x-shop': 'one' } })
  const item = await ping()
  expect(item).toMatchObject({
    state: 'done',
    result: {
      ok: true,
      statusCode: 204,
      durationMs: expect.any(Number),
      error: null,
      keyEncoding: 'base64 (whsec_)',
      signatures: 1,
    },
  })
  const [request] = receiver.requests
  expect(request!.headers).toMatchObject({
    'webhook-id': expect.stringMatching(/^ping_[0-9a-f-]{36}$/),
    'x-shop': 'one',
  })
  const { siteId, webhookId } = stack
  expect(new Webhook(secret).verify(request!.body, request!.headers as Record<string, string>)).toEqual({
    type: 'webhook.ping',
    timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
    siteId,
    data: { webhookId },
  })
  const { rows } = await stack.db.execute(sql`
    SELECT (SELECT count(*)::int FROM website_webhook_deliveries) AS deliveries,
      (SELECT count(*)::int FROM website_worker.webhook_health) AS health,
      (SELECT count(*)::int FROM website_worker.webhook_attempts) AS attempts`)
  expect(rows).toEqual([{ deliveries: 0, health: 0, attempts: 0 }])
})

test('reaches a webhook that is off, and says which key signed', async () => {
  await stack.setWebhook({ isActive: false, secret: 'just text' })
  expect((await ping()).result).toMatchObject({ ok: true, keyEncoding: 'utf-8', signatures: 1 })
  await stack.setWebhook({ secret: `${secret} whsec_c2VjcmV0LW9mLXRoZS1vbGQtZGF5cw==` })
  expect((await ping()).result).toMatchObject({ ok: true, keyEncoding: 'base64 (whsec_)', signatures: 2 })
})

test.each([
  [500, 'answered 500 Internal Server Error'],
  [410, 'answered 410 Gone'],
  [302, 'answered 302 Found: redirects are not followed'],
])('tells of an answer %i, once', async (status, error) => {
  receiver.answer(() => ({ status, headers: { location: '/elsewhere' } }))
  expect(await ping()).toMatchObject({ state: 'done', attempts: 1, result: { ok: false, statusCode: status, error } })
  expect(receiver.requests).toHaveLength(1)
  const { rows } = await stack.db.execute(sql`SELECT is_active FROM website_webhooks WHERE id = ${stack.webhookId}`)
  expect(rows).toEqual([{ is_active: true }])
})

test('tells of no answer', async () => {
  receiver.answer(() => 'reset')
  expect((await ping()).result).toMatchObject({ ok: false, statusCode: null, error: expect.stringMatching(/\w/) })
})

test('tells of an address that the guard refuses, without a packet', async () => {
  await stack.setWebhook({ targetUrl: `http://127.0.0.2:${receiver.port}/` })
  expect((await ping()).result).toMatchObject({
    ok: false,
    statusCode: null,
    error: expect.stringContaining('127.0.0.2'),
  })
})

test('fails with the reason when the secret cannot sign', async () => {
  await stack.setWebhook({ secret: 'whsec_not base64!' })
  expect(await ping()).toMatchObject({ state: 'failed', lastError: expect.stringContaining('webhook secret') })
  expect(receiver.requests).toEqual([])
})
