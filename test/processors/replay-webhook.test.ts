import { sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { pauseDomain, resumeDomain } from '../../src/db/domains.ts'
import { replayWebhookProcessor } from '../../src/processors/replay-webhook.ts'
import type { JobName } from '../../src/queues/index.ts'
import type { ReplayWebhookPayload } from '../../src/queues/replay-webhook.ts'
import { cancel, retry, takeLease } from '../../src/work/transitions.ts'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'
import { createReplayStack, type ReplayStack } from './replay-fixtures.ts'

let receiver: Receiver
let stack: ReplayStack
beforeEach(async () => {
  receiver = await startReceiver()
})
afterEach(async () => {
  await stack.close()
  await receiver.close()
})

async function given(...jobs: JobName[]) {
  stack = await createReplayStack(`${receiver.url}/hook`, jobs)
}
const start = () => {
  stack.work()
  stack.dispatcher.start()
}
const until = (workId: number, state: string) =>
  vi.waitFor(async () => {
    const item = await stack.job(workId)
    expect(item.state, item.lastError ?? '').toBe(state)
    return item
  }, 20_000)
const idsSent = async () => {
  const { rows } = await stack.db.execute(sql`SELECT id, event_id FROM website_webhook_deliveries`)
  const byEvent = new Map(rows.map((row) => [row.event_id, row.id as number]))
  return receiver.requests.map(({ headers }) => byEvent.get(headers['webhook-id'])!).toSorted((a, b) => a - b)
}

describe('a replay', () => {
  test('sends every failed delivery of its window again, and nothing else', async () => {
    await given('deliver-webhook', 'replay-webhook')
    const failed = await stack.deliveries(3)
    const pruned = await stack.deliveries(2, { state: 'pruned' })
    const edges = [
      ...(await stack.deliveries(1, { at: '2026-03-01T00:00:00Z' })),
      ...(await stack.deliveries(1, { at: '2026-03-02T00:00:00Z' })),
    ]
    await stack.deliveries(2, { at: '2026-02-28T23:59:59.999Z' })
    await stack.deliveries(2, { at: '2026-03-02T00:00:00.001Z' })
    await stack.deliveries(2, { bodiless: true })
    await stack.deliveries(2, { state: 'done', delivered: true })
    await stack.deliveries(2, { state: 'pruned', delivered: true })
    await stack.deliveries(2, { state: 'owed' })
    await stack.deliveries(2, { state: 'held', reason: 'webhook disabled' })
    await stack.deliveries(2, { state: 'cancelled' })
    // The dispatcher would release these by itself, since the webhook is on: not part of this.
    await stack.db.execute(sql`UPDATE website_worker.work SET reason = 'by hand' WHERE state = 'held'`)

    const workId = await stack.replay()
    start()
    const job = await until(workId, 'done')
    const wanted = [...failed, ...pruned, ...edges].toSorted((a, b) => a - b)
    await receiver.waitFor(wanted.length)
    expect(job).toMatchObject({
      result: { total: 7, replayed: 7, skipped: 2 },
      progress: { total: 7, replayed: 7, percent: 100 },
    })
    expect(await stack.progressOf(workId)).toBeUndefined()
    await vi.waitFor(async () => {
      for (const id of wanted)
        expect(await stack.ledger(id)).toMatchObject({ attempts: 11, delivered_at: expect.anything() })
    })
    expect(await idsSent()).toEqual(wanted)
    const { rows } = await stack.db.execute(sql`SELECT DISTINCT trigger FROM website_worker.webhook_attempts`)
    expect(rows).toEqual([{ trigger: 'replay' }])
  })

  test('of delivered ones keeps when they were delivered first', async () => {
    await given('deliver-webhook', 'replay-webhook')
    receiver.answer(() => ({ status: 200, body: 'again' }))
    const ids = [
      ...(await stack.deliveries(1, { state: 'done', delivered: true })),
      ...(await stack.deliveries(1, { state: 'pruned', delivered: true })),
    ]
    const before = await Promise.all(ids.map((id) => stack.ledger(id)))
    const workId = await stack.replay('delivered')
    start()
    await until(workId, 'done')
    await vi.waitFor(async () => {
      for (const [index, id] of ids.entries()) {
        const { attempts, response_body, delivered_at } = await stack.ledger(id)
        expect({ attempts, response_body, delivered_at }).toEqual({
          attempts: 11,
          response_body: 'again',
          delivered_at: before[index]!.delivered_at,
        })
      }
    })
  })

  test.each(['held', 'cancelled'] as const)('sends those that are %s', async (state) => {
    await given('deliver-webhook', 'replay-webhook')
    const ids = await stack.deliveries(3, { state, reason: 'by hand' })
    await stack.deliveries(2)
    const workId = await stack.replay(state)
    start()
    expect(await until(workId, 'done')).toMatchObject({ result: { total: 3, replayed: 3, skipped: 0 } })
    await receiver.waitFor(3)
    expect(await idsSent()).toEqual(ids)
  })

  test('with nothing to send is done at once', async () => {
    await given('replay-webhook')
    const workId = await stack.replay()
    start()
    expect(await until(workId, 'done')).toMatchObject({ result: { total: 0, replayed: 0, skipped: 0 } })
  })

  test('that is run once more after its end begins anew', async () => {
    await given('deliver-webhook', 'replay-webhook')
    await stack.deliveries(2)
    const workId = await stack.replay()
    start()
    await until(workId, 'done')
    await receiver.waitFor(2)
    const later = await stack.deliveries(1)
    await retry(stack.db, [workId], 'retry')
    await vi.waitFor(
      async () => expect((await stack.job(workId)).result).toEqual({ total: 1, replayed: 1, skipped: 0 }),
      10_000,
    )
    await receiver.waitFor(3)
    expect(await idsSent()).toContain(later[0])
  })
})

describe('a long replay', () => {
  /** Nobody sends the deliveries: they wait until a test ends them. */
  const owed = async () => (await stack.items()).filter((item) => item.state === 'owed').length
  const sendSome = (n: number) =>
    stack.db.execute(sql`
      UPDATE website_worker.work SET state = 'done', finished_at = now() WHERE id IN (
        SELECT id FROM website_worker.work WHERE job = 'deliver-webhook' AND state = 'owed' ORDER BY id LIMIT ${n})`)

  test('keeps at most 500 ahead of the receiver, and goes on as they are sent', async () => {
    await given('replay-webhook')
    await stack.deliveries(1_300)
    const workId = await stack.replay()
    start()
    const seen: number[] = []
    const waitForOwed = (n: number) =>
      vi.waitFor(async () => {
        seen.push(await owed())
        expect(seen.at(-1)).toBe(n)
      }, 10_000)
    await waitForOwed(500)
    await sendSome(250)
    await waitForOwed(500)
    expect(await stack.progressOf(workId)).toMatchObject({ total: 1_300, replayed: 750 })
    await sendSome(500)
    await waitForOwed(500)
    // One that failed once is on its own schedule, and in nobody's way.
    await stack.db.execute(
      sql`UPDATE website_worker.work SET attempts = 1, next_at = now() + interval '5 s' WHERE job = 'deliver-webhook' AND state = 'owed'`,
    )
    expect(await until(workId, 'done')).toMatchObject({ result: { total: 1_300, replayed: 1_300, skipped: 0 } })
    expect(Math.max(...seen)).toBe(500)
    expect((await stack.items()).every(({ generation, trigger }) => generation === 2 && trigger === 'replay')).toBe(
      true,
    )
  })

  test('that is cancelled owes no more', async () => {
    await given('replay-webhook')
    await stack.deliveries(1_000)
    const workId = await stack.replay()
    start()
    await vi.waitFor(async () => expect(await owed()).toBe(500), 10_000)
    await cancel(stack.db, [workId], 'cancelled by a test')
    await sendSome(500)
    await vi.waitFor(async () => {
      expect(await stack.backend.queue('replay-webhook').getJobCounts('active', 'waiting', 'delayed')).toEqual({
        active: 0,
        waiting: 0,
        delayed: 0,
      })
    }, 10_000)
    expect(await owed()).toBe(0)
    expect(await stack.job(workId)).toMatchObject({ state: 'cancelled' })
  })

  test('ends when its webhook is switched off, and goes on where it was once it is on again', async () => {
    await given('replay-webhook')
    await stack.deliveries(1_000)
    const workId = await stack.replay()
    start()
    await vi.waitFor(async () => expect(await owed()).toBe(500), 10_000)
    await stack.setWebhook({ isActive: false })
    await sendSome(500)
    expect((await until(workId, 'failed')).lastError).toContain('the webhook was switched off. Switch it on')
    await stack.setWebhook({ isActive: true })
    await retry(stack.db, [workId], 'retry')
    await vi.waitFor(async () => expect(await owed()).toBe(500), 10_000)
    expect(await until(workId, 'done')).toMatchObject({ result: { total: 1_000, replayed: 1_000 } })
    expect((await stack.items()).every(({ generation }) => generation === 2)).toBe(true)
  })

  test('waits while its site is paused', async () => {
    await given('replay-webhook')
    await stack.deliveries(600)
    const workId = await stack.replay()
    start()
    await vi.waitFor(async () => expect(await owed()).toBe(500), 10_000)
    await pauseDomain(stack.db, stack.siteId, 'webhooks')
    await sendSome(500)
    expect(await until(workId, 'held')).toMatchObject({ reason: 'paused' })
    await resumeDomain(stack.db, stack.siteId, 'webhooks')
    expect(await until(workId, 'done')).toMatchObject({ result: { replayed: 600 } })
  })

  describe('run by hand', () => {
    const payload = (): ReplayWebhookPayload => ({
      webhookId: stack.webhookId,
      since: '2026-03-01T00:00:00.000Z',
      until: '2026-03-02T00:00:00.000Z',
      status: 'failed',
    })
    const run = (workId: number, signal: AbortSignal, progress: (value: unknown) => void = () => {}) =>
      replayWebhookProcessor.process(
        payload(),
        { db: stack.db },
        {
          workId,
          attempt: 1,
          trigger: 'request',
          lane: null,
          loaded: undefined,
          log: pino({ level: 'silent' }),
          signal,
          progress,
        },
      )
    const begun = async (n: number) => {
      await given('replay-webhook')
      await stack.deliveries(n)
      const workId = await stack.replay()
      await takeLease(stack.db, { workId, generation: 1 }, crypto.randomUUID(), 60_000)
      return workId
    }

    test('is given back at once when the process stops, and the next run takes no page twice', async () => {
      const workId = await begun(900)
      const stop = new AbortController()
      const first = await run(workId, stop.signal, () => stop.abort())
      expect(first).toMatchObject({ kind: 'retry' })
      expect(await stack.progressOf(workId)).toMatchObject({ total: 900, replayed: 250 })
      const second = new AbortController()
      const shown: unknown[] = []
      const running = run(workId, second.signal, (value) => shown.push(value))
      // What the first run owed counts: 250 are outstanding, so there is room for one page.
      await vi.waitFor(async () => expect(await owed()).toBe(500))
      await sendSome(500)
      await vi.waitFor(async () => expect(await owed()).toBe(400), 5_000)
      expect(await running).toEqual({ kind: 'done', result: { total: 900, replayed: 900, skipped: 0 }, record: true })
      expect(shown).toMatchObject([{ replayed: 500 }, { replayed: 750 }, { replayed: 900, percent: 100 }])
      expect((await stack.items()).every(({ generation }) => generation === 2)).toBe(true)
    })

    test('shares the pages with a run it overtook', async () => {
      const workId = await begun(900)
      const never = new AbortController().signal
      const running = Promise.all([run(workId, never), run(workId, never)])
      const ending = setInterval(() => void sendSome(500).catch(() => {}), 50)
      const outcomes = await running.finally(() => clearInterval(ending))
      expect(outcomes).toContainEqual({ kind: 'done', result: { total: 900, replayed: 900, skipped: 0 }, record: true })
      expect((await stack.items()).every(({ generation }) => generation === 2)).toBe(true)
    })

    test('leaves alone what someone else owes at the same moment', async () => {
      const workId = await begun(3)
      const items = await stack.items()
      let replaying: ReturnType<typeof run> | undefined
      await stack.db.transaction(async (tx) => {
        await tx.execute(
          sql`UPDATE website_worker.work SET state = 'owed', generation = 2, trigger = 'retry' WHERE key = ${items[1]!.key}`,
        )
        replaying = run(workId, new AbortController().signal)
        await vi.waitFor(async () => {
          const { rows } = await stack.db.execute(
            sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          )
          expect(rows).toHaveLength(1)
        })
      })
      expect(await replaying).toMatchObject({ kind: 'done', result: { total: 3, replayed: 2 } })
      expect((await stack.items()).map(({ trigger, generation }) => [trigger, generation])).toEqual([
        ['replay', 2],
        ['retry', 2],
        ['replay', 2],
      ])
    })
  })
})
