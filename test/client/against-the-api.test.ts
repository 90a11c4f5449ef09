import { afterAll, beforeAll, expect, test } from 'vitest'
import { createClient, emitEvent, enqueue, type Client } from '../../src/client/index.ts'
import { addSite, createApi, secrets, type ApiFixture } from '../http/api-fixture.ts'

let api: ApiFixture
let client: Client
let siteId: number
let webhookId: number

beforeAll(async () => {
  api = await createApi()
  const url = await api.app.listen({ port: 0, host: '127.0.0.1' })
  client = createClient({ url, apiKey: secrets.both })
  const { site, webhooks } = await addSite(api.db, ['order.created'])
  siteId = site.id
  webhookId = webhooks[0]!.id
})
afterAll(async () => {
  api.app.server.closeAllConnections()
  await api.close()
})

test('emits events, one or many, and reads what became of them', async () => {
  const event = {
    siteId,
    event: 'order.created',
    data: { text: '\u0000\ud800' },
    id: 'one',
    occurredAt: new Date(0),
  } as const
  const first = await client.emitEvent(event)
  expect(first).toEqual({ eventId: 'one', deliveries: [{ id: expect.any(Number), webhookId, status: 'pending' }] })
  expect(await client.emitEvent(event)).toEqual(first)

  const many = Array.from({ length: 1_100 }, (_, n) => ({ ...event, id: n === 3 ? 'a b' : `n${n}` }))
  const results = await client.emitEvents(many)
  expect(results.filter(({ outcome }) => outcome === 'accepted')).toHaveLength(1_099)
  expect(results[3]).toMatchObject({ outcome: 'invalid', status: 422, problem: { field: 'id' } })

  const listed: (string | null)[] = []
  for await (const { eventId } of client.listDeliveries({ webhookId, status: 'pending' })) listed.push(eventId)
  expect(new Set(listed).size).toBe(1_100)

  const id = first.deliveries[0]!.id
  expect(await client.getDelivery(id)).toMatchObject({ id, eventId: 'one', status: 'pending', attemptLog: [] })
  expect(await client.cancelDelivery(id)).toMatchObject({ status: 'cancelled' })
  expect(await client.retryDelivery(id)).toMatchObject({ status: 'pending' })
  expect(await client.getWebhook(webhookId)).toMatchObject({ id: webhookId, active: true, health: 'healthy' })
})

test('replays, tests and calls off the deliveries of a webhook', async () => {
  const replay = await client.replayWebhook(webhookId, { since: new Date(0), status: 'cancelled' })
  expect(replay).toEqual({
    jobId: expect.any(String),
    state: 'waiting',
    href: `/v1/jobs/replay-webhook/${replay.jobId}`,
  })
  expect(await client.getJob('replay-webhook', replay.jobId)).toMatchObject({
    payload: { webhookId, status: 'cancelled' },
  })
  const ping = await client.pingWebhook(webhookId)
  expect(await client.getJob('ping-webhook', ping.jobId)).toMatchObject({ state: 'waiting', payload: { webhookId } })
  await client.emitEvent({ siteId, event: 'order.created', data: 1 })
  const { cancelled, more } = await client.cancelPendingDeliveries(webhookId)
  expect(cancelled).toBeGreaterThan(0)
  expect(more).toBe(false)
  expect(await client.getJob('replay-webhook', replay.jobId)).toMatchObject({ state: 'cancelled' })
  await expect(client.replayWebhook(webhookId, { since: 'yesterday' })).rejects.toMatchObject({
    status: 422,
    problem: { field: 'since' },
  })
})

test('reads and steers a job, whichever way it was enqueued', async () => {
  const { jobId } = await client.enqueue('sync-products', { siteId }, { idempotencyKey: 'k1' })
  expect(await enqueue(api.pool, 'sync-products', { siteId })).toBe(Number(jobId))
  expect(await client.getJob('sync-products', jobId)).toMatchObject({ jobId, state: 'waiting', payload: { siteId } })
  expect(await client.cancelJob('sync-products', Number(jobId))).toMatchObject({ state: 'cancelled' })
  expect(await client.retryJob('sync-products', jobId)).toMatchObject({ state: 'waiting' })
})

test('throws what the API answered, naming the field', async () => {
  await expect(client.emitEvent({ siteId: 999, event: 'order.created', data: 1 })).rejects.toMatchObject({
    status: 422,
    problem: { field: 'siteId' },
  })
  await emitEvent(api.pool, { siteId, event: 'order.created', data: 1, id: 'taken' })
  await expect(client.emitEvent({ siteId, event: 'order.created', data: 2, id: 'taken' })).rejects.toMatchObject({
    status: 409,
  })
  await expect(client.getJob('sync-products', 999_999)).rejects.toMatchObject({ status: 404 })
})

test('limits what an origin is sent', async () => {
  const origin = 'https://shop.example'
  const limits = { maxConcurrent: 4, requestsPerSecond: null }
  expect(await client.setOriginLimits(origin, { maxConcurrent: 4 })).toMatchObject({ origin, limits })
  await client.setOriginLimits('*', { requestsPerSecond: 50 })
  for (let n = 0; n < 60; n++) await client.setOriginLimits(`http://${n}.example`, limits)
  const listed: string[] = []
  for await (const each of client.listOrigins()) listed.push(each.origin)
  expect(new Set(listed).size).toBe(62)
  expect(listed).toEqual(expect.arrayContaining(['*', origin]))
  expect(await client.resetOrigin(origin)).toMatchObject({ origin, limits: null })
  expect(await client.getOrigin('*')).toMatchObject({ limits: { maxConcurrent: null, requestsPerSecond: 50 } })
  await expect(client.resetOrigin(origin)).rejects.toMatchObject({ status: 404 })
})
