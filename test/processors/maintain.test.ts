import { sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { maintainProcessor } from '../../src/processors/maintain.ts'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'
import { createReplayStack, type ReplayStack } from './replay-fixtures.ts'

let receiver: Receiver
let stack: ReplayStack
beforeEach(async () => {
  receiver = await startReceiver()
  stack = await createReplayStack(`${receiver.url}/hook`, ['deliver-webhook', 'maintain'])
})
afterEach(async () => {
  await stack.close()
  await receiver.close()
})

async function fail(sinceDays: number, lastDays: number) {
  await stack.db.execute(
    sql`INSERT INTO website_worker.webhook_health (webhook_id, failing_since, last_failure_at)
        VALUES (${stack.webhookId}, now() - ${sinceDays} * interval '1 day', now() - ${lastDays} * interval '1 day')
        ON CONFLICT (webhook_id) DO UPDATE SET failing_since = excluded.failing_since,
          last_failure_at = excluded.last_failure_at`,
  )
}
async function emit(id: string) {
  const { rows } = await stack.db.execute(
    sql`SELECT website_worker.emit_event(${stack.siteId}, 'order.created', '{}', ${id})`,
  )
  expect(rows).toHaveLength(1)
}
const items = async () =>
  (await stack.db.execute(sql`SELECT state, reason FROM website_worker.work WHERE job = 'deliver-webhook' ORDER BY id`))
    .rows

/** One run of `maintain`, and what it logged. */
async function maintain(signal = new AbortController().signal) {
  const logged: Record<string, unknown>[] = []
  const log = pino({ base: null, timestamp: false }, { write: (line) => void logged.push(JSON.parse(line)) })
  const context = { workId: 1, attempt: 1, trigger: 'schedule', lane: null, loaded: undefined, progress: () => {} }
  const outcome = await maintainProcessor.process({}, { db: stack.db, payloadsDays: 30 }, { ...context, log, signal })
  return { outcome, logged }
}

test('what only failed for five days gets held events until its owner switches it on, and then all of them', async () => {
  stack.work()
  stack.dispatcher.start()
  await fail(9, 1)
  await stack.db.execute(sql`INSERT INTO website_worker.work (job, key, payload) VALUES ('maintain', '', '{}')`)
  await vi.waitFor(async () => {
    const { rows } = await stack.db.execute(sql`SELECT is_active FROM website_webhooks WHERE id = ${stack.webhookId}`)
    expect(rows).toEqual([{ is_active: false }])
  }, 10_000)
  await emit('while-off-1')
  await emit('while-off-2')
  const held = { state: 'held', reason: 'webhook disabled' }
  expect(await items()).toEqual([held, held])
  expect(receiver.requests).toEqual([])

  const done = { state: 'done', reason: null }
  await stack.setWebhook({ isActive: true })
  await vi.waitFor(() => expect(receiver.requests).toHaveLength(2), 10_000)
  await vi.waitFor(async () => expect(await items()).toEqual([done, done]), 10_000)
  await emit('on-again')
  await vi.waitFor(() => expect(receiver.requests).toHaveLength(3), 10_000)
  const { rows } = await stack.db.execute(sql`SELECT disabled_at, failing_since FROM website_worker.webhook_health`)
  expect(rows).toEqual([{ disabled_at: null, failing_since: null }])
})

test('one that its owner switches off gets nothing, and is not counted as disabled', async () => {
  await fail(9, 1)
  await stack.setWebhook({ isActive: false })
  expect((await maintain()).outcome).toMatchObject({ kind: 'done', result: { disabled: 0 } })
  await emit('for-nobody')
  expect(await items()).toEqual([])
})

test('the five days begin anew once it is on again', async () => {
  await fail(9, 1)
  const { webhookId, siteId } = stack
  const { outcome, logged } = await maintain()
  expect(outcome).toMatchObject({ kind: 'done', result: { disabled: 1, reactivated: 0 } })
  expect(logged).toEqual([
    {
      level: 40,
      webhookId,
      siteId,
      name: expect.any(String),
      failingSince: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      msg: 'webhook disabled: it did nothing but fail',
    },
  ])
  await stack.setWebhook({ isActive: true })
  const again = await maintain()
  expect(again.outcome).toMatchObject({ result: { disabled: 0, reactivated: 1 } })
  expect(again.logged).toMatchObject([{ level: 30, webhookId, siteId }])
  await fail(1, 0)
  expect((await maintain()).outcome).toMatchObject({ result: { disabled: 0, reactivated: 0 } })
  await fail(5, 0)
  expect((await maintain()).outcome).toMatchObject({ result: { disabled: 1 } })
})

test('stops where it is when the process ends, and goes on later', async () => {
  expect((await maintain(AbortSignal.abort())).outcome).toEqual({ kind: 'retry', error: 'stopped on the way' })
})
