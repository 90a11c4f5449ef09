import fc from 'fast-check'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { foldHealth, recordHealth } from '../../src/db/queries/webhook-health.ts'
import { startReceiver } from '../fixtures/receiver.ts'
import { webhookBench, type WebhookBench } from './webhook-fixtures.ts'

let bench: WebhookBench
beforeAll(async () => {
  bench = await webhookBench()
})
afterAll(() => bench.close())

const at = (seconds: number) => new Date(Date.parse('2025-03-01T12:00:00Z') + seconds * 1_000)
let lastId = 1_000_000

describe('recordHealth', () => {
  test('knows since when a webhook has failed, however its attempts are batched', async () => {
    const attempts = fc.array(fc.record({ ok: fc.boolean(), cut: fc.boolean() }), { minLength: 1, maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(attempts, async (list) => {
        const webhookId = ++lastId
        let batch: { webhookId: number; at: Date; ok: boolean }[] = []
        for (const [n, { ok, cut }] of list.entries()) {
          batch.unshift({ webhookId, at: at(n), ok })
          if (!cut && n < list.length - 1) continue
          await recordHealth(bench.db, foldHealth(batch))
          batch = []
        }
        const lastOk = list.findLastIndex((each) => each.ok)
        const lastBad = list.findLastIndex((each) => !each.ok)
        const failing = list.findIndex((each, n) => n > lastOk && !each.ok)
        expect(await bench.health(webhookId)).toMatchObject({
          failingSince: failing === -1 ? null : at(failing),
          lastSuccessAt: lastOk === -1 ? null : at(lastOk),
          lastFailureAt: lastBad === -1 ? null : at(lastBad),
        })
      }),
      { numRuns: 60 },
    )
  })

  test('is not misled by a failure that is reported late', async () => {
    const webhookId = ++lastId
    const note = (seconds: number, ok: boolean) =>
      recordHealth(bench.db, foldHealth([{ webhookId, at: at(seconds), ok }]))
    await note(1, false)
    await note(10, true)
    await note(5, false)
    expect(await bench.health(webhookId)).toMatchObject({
      failingSince: null,
      lastSuccessAt: at(10),
      lastFailureAt: at(5),
    })
    await note(20, false)
    await note(15, true)
    expect(await bench.health(webhookId)).toMatchObject({
      failingSince: at(20),
      lastSuccessAt: at(15),
      lastFailureAt: at(20),
    })
  })
})

test('a webhook that stays as well as it was is not written again within ten seconds', async () => {
  const receiver = await startReceiver()
  const webhookId = await bench.webhook({ targetUrl: receiver.url })
  const version = async () =>
    (
      await bench.rows<{ xmin: string }>(
        sql`SELECT xmin::text FROM website_worker.webhook_health WHERE webhook_id = ${webhookId}`,
      )
    )[0]?.xmin
  const runAt = async (seconds: number) => {
    const { deliveryId } = await bench.delivery(webhookId)
    await bench.run(deliveryId, { now: () => at(seconds) })
    return version()
  }

  const first = await runAt(0)
  expect(await runAt(9)).toBe(first)
  const refreshed = await runAt(12)
  expect(refreshed).not.toBe(first)

  receiver.answer(() => ({ status: 500 }))
  const failed = await runAt(13)
  expect(failed, 'the first failure is news').not.toBe(refreshed)
  expect(await runAt(14), 'the second is not').toBe(failed)
  receiver.answer(() => ({ status: 200 }))
  expect(await runAt(15), 'nor is it missed that it recovered').not.toBe(failed)
  expect(await bench.health(webhookId)).toMatchObject({ failingSince: null, lastSuccessAt: at(15) })
  await receiver.close()
})

test('the failure that makes it five days switches a webhook off; once it is on again they begin anew', async () => {
  const receiver = await startReceiver()
  receiver.answer(() => ({ status: 500 }))
  const webhookId = await bench.webhook({ targetUrl: receiver.url })
  const { deliveryId } = await bench.delivery(webhookId)
  await bench.rows(
    sql`INSERT INTO website_worker.webhook_health (webhook_id, failing_since, last_failure_at)
        VALUES (${webhookId}, now() - interval '121 hours', now() - interval '119 hours')`,
  )
  const isOn = async () =>
    (await bench.rows<{ on: boolean }>(sql`SELECT is_active AS on FROM website_webhooks WHERE id = ${webhookId}`))[0]
      ?.on

  expect(await bench.run(deliveryId)).toMatchObject({ kind: 'retry' })
  expect(await isOn()).toBe(false)
  expect(await bench.health(webhookId)).toMatchObject({
    disabledAt: expect.any(Date),
    disabledReason: expect.stringMatching(/^nothing but failures since \d{4}-\d\d-\d\d \d\d:\d\d UTC$/),
  })
  const sent = receiver.requests.length
  expect(await bench.run(deliveryId)).toMatchObject({ kind: 'held', reason: 'webhook disabled' })
  expect(receiver.requests).toHaveLength(sent)

  await bench.rows(sql`UPDATE website_webhooks SET is_active = true WHERE id = ${webhookId}`)
  for (let n = 0; n < 3; n++) expect(await bench.run(deliveryId)).toMatchObject({ kind: 'retry' })
  expect(await isOn()).toBe(true)
  const { disabledAt, failingSince } = (await bench.health(webhookId))!
  expect(disabledAt).toBeNull()
  expect(Date.now() - failingSince!.getTime()).toBeLessThan(86_400_000)
  await receiver.close()
})
