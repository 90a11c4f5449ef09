import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  disableFailing,
  disableWebhooks,
  failingForMs,
  foldHealth,
  noteReactivated,
  recordHealth,
} from '../../src/db/queries/webhook-health.ts'
import { websiteSites, websiteWebhooks, webhookHealth } from '../../src/db/schema/index.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
let siteId: number
beforeAll(async () => {
  database = await createTestDatabase()
  const [site] = await database.db.insert(websiteSites).values({ name: 'Shop', domain: 'shop.test' }).returning()
  siteId = site?.id ?? 0
})
afterAll(() => database.drop())
beforeEach(() => database.db.execute(sql`DELETE FROM website_worker.webhook_health`))

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour
const ago = (ms: number) => new Date(Date.now() - ms)
const sixDaysAgo = ago(6 * day)

async function webhook(health: Partial<typeof webhookHealth.$inferInsert> = {}, isActive = true): Promise<number> {
  const values: typeof websiteWebhooks.$inferInsert = {
    siteId,
    name: 'Orders',
    event: 'order.created',
    targetUrl: 'http://127.0.0.1/',
    secret: 's',
    isActive,
  }
  const [row] = await database.db.insert(websiteWebhooks).values(values).returning()
  const webhookId = row?.id ?? 0
  await database.db.insert(webhookHealth).values({ webhookId, ...health })
  return webhookId
}

const healthOf = async (webhookId: number) =>
  (
    await database.db
      .select()
      .from(webhookHealth)
      .where(sql`webhook_id = ${webhookId}`)
  )[0]
const isOn = async (webhookId: number) =>
  (
    await database.db
      .select()
      .from(websiteWebhooks)
      .where(sql`id = ${webhookId}`)
  )[0]?.isActive
const switchTo = (webhookId: number, isActive: boolean) =>
  database.db
    .update(websiteWebhooks)
    .set({ isActive })
    .where(sql`id = ${webhookId}`)
const audits = async (webhookId: number) =>
  (
    await database.db.execute(
      sql`SELECT site_id, action, resource_name, changes, user_agent FROM website_audit_logs
          WHERE resource_type = 'webhook' AND resource_id = ${webhookId}`,
    )
  ).rows
const judge = (webhookIds: readonly number[] | 'all' = 'all') => disableFailing(database.db, webhookIds, failingForMs)
const note = (webhookId: number, at: Date, ok: boolean, reportedAt?: Date) =>
  recordHealth(database.db, foldHealth([{ webhookId, at, ok }]), reportedAt ? { reportedAt } : {})

describe('disableFailing', () => {
  test('switches off what did nothing but fail for five days, with an audit row that says since when', async () => {
    const failingSince = ago(5 * day + minute)
    const webhookId = await webhook({ failingSince, lastFailureAt: ago(0) })
    expect(await judge([webhookId])).toEqual([{ webhookId, siteId, name: 'Orders', failingSince }])
    expect(await isOn(webhookId)).toBe(false)
    const reason = `nothing but failures since ${failingSince.toISOString().slice(0, 16).replace('T', ' ')} UTC`
    expect(await healthOf(webhookId)).toMatchObject({
      disabledAt: expect.any(Date),
      disabledReason: reason,
      failingSince,
    })
    expect(await audits(webhookId)).toEqual([
      {
        site_id: siteId,
        action: 'webhook.disabled',
        resource_name: 'Orders',
        changes: { isActive: { from: true, to: false }, reason },
        user_agent: 'website-worker',
      },
    ])
    expect(await judge([webhookId]), 'once').toEqual([])
    expect(await audits(webhookId)).toHaveLength(1)
  })

  test.each<[outcome: string, health: Partial<typeof webhookHealth.$inferInsert>, off: boolean]>([
    [
      'five days to the millisecond',
      { failingSince: sixDaysAgo, lastFailureAt: new Date(+sixDaysAgo + 5 * day) },
      true,
    ],
    ['a millisecond less', { failingSince: sixDaysAgo, lastFailureAt: new Date(+sixDaysAgo + 5 * day - 1) }, false],
    ['failures of three days, then silence', { failingSince: ago(60 * day), lastFailureAt: ago(57 * day) }, false],
    ['a single failure, then silence', { failingSince: ago(60 * day), lastFailureAt: ago(60 * day) }, false],
    ['no failure', { lastSuccessAt: ago(60 * day) }, false],
    ['a success after the failures', { lastSuccessAt: ago(0), lastFailureAt: ago(minute) }, false],
    ['failures that lie ahead', { failingSince: ago(minute), lastFailureAt: ago(-6 * day) }, false],
    [
      'disabled before, and on again',
      { failingSince: ago(20 * day), lastFailureAt: ago(0), disabledAt: ago(9 * day) },
      false,
    ],
  ])('%s', async (_, health, off) => {
    const [failing, other] = [await webhook(health), await webhook(health)]
    expect((await judge([failing])).map((each) => each.webhookId)).toEqual(off ? [failing] : [])
    expect([await isOn(failing), await isOn(other)], 'only the one that was asked about').toEqual([!off, true])
  })

  test('leaves alone what its owner switched off', async () => {
    const webhookId = await webhook({ failingSince: ago(9 * day), lastFailureAt: ago(0) }, false)
    expect(await judge()).toEqual([])
    expect(await healthOf(webhookId)).toMatchObject({ disabledAt: null })
    expect(await audits(webhookId)).toEqual([])
  })

  test('judges every webhook where none is named, and leaves one whose row is locked for another time', async () => {
    const health = { failingSince: ago(9 * day), lastFailureAt: ago(0) }
    const [locked, free] = [await webhook(health), await webhook(health)]
    const owner = await database.pool.connect()
    await owner.query('BEGIN')
    await owner.query('UPDATE website_webhooks SET name = name WHERE id = $1', [locked])
    expect((await judge()).map((each) => each.webhookId)).toEqual([free])
    await owner.query('COMMIT')
    owner.release()
    expect((await judge()).map((each) => each.webhookId)).toEqual([locked])
  })

  test('two at once write one audit row', async () => {
    const webhookId = await webhook({ failingSince: ago(9 * day), lastFailureAt: ago(0) })
    const all = await Promise.all(Array.from({ length: 6 }, () => judge()))
    expect(all.flat()).toHaveLength(1)
    expect(await audits(webhookId)).toHaveLength(1)
  })
})

describe('recordHealth', () => {
  test('names what has failed for five days, and nothing else', async () => {
    const [failing, late] = [
      await webhook({ failingSince: ago(6 * day) }),
      await webhook({ failingSince: ago(4 * day) }),
    ]
    const attempts = [failing, late].map((webhookId) => ({ webhookId, at: ago(0), ok: false }))
    expect(await recordHealth(database.db, foldHealth(attempts))).toEqual([failing])
  })

  test.each([
    ['ahead', -6 * day],
    ['behind', 6 * day],
  ])('puts right what a process tells whose clock is %s', async (_, wrongBy) => {
    const [webhookId, other] = [await webhook(), await webhook()]
    const theirNow = ago(wrongBy)
    await note(webhookId, new Date(+theirNow - minute), false, theirNow)
    await note(webhookId, ago(0), false)
    const health = await healthOf(webhookId)
    expect(Math.abs(+health!.failingSince! - +ago(minute))).toBeLessThan(minute / 2)
    expect(await judge(), 'a first failure').toEqual([])
    await note(other, ago(2 * minute), false)
    await note(other, new Date(+theirNow - minute), true, theirNow)
    expect(await healthOf(other), 'the later success counts').toMatchObject({ failingSince: null })
  })

  test('of a webhook that is on again begins anew', async () => {
    const health = {
      failingSince: ago(20 * day),
      lastFailureAt: ago(9 * day),
      disabledAt: ago(9 * day),
      disabledReason: 'x',
    }
    const [failed, worked] = [await webhook(health), await webhook(health)]
    expect(await note(failed, ago(0), false)).toEqual([])
    expect(await note(worked, ago(0), true)).toEqual([])
    for (const webhookId of [failed, worked]) {
      expect(await healthOf(webhookId)).toMatchObject({ failingSince: null, disabledAt: null, disabledReason: null })
    }
    const first = ago(0)
    await note(failed, first, false)
    expect(await healthOf(failed)).toMatchObject({ failingSince: first })
    expect(await judge()).toEqual([])
    await note(failed, new Date(+first + 1), false)
    expect(await isOn(failed)).toBe(true)
  })

  test.each([true, false])(
    'an attempt that ends after its webhook was disabled leaves it so (success: %s)',
    async (ok) => {
      const disabledAt = ago(minute)
      const webhookId = await webhook({ failingSince: ago(6 * day), disabledAt, disabledReason: 'x' }, false)
      await note(webhookId, ago(0), ok)
      expect(await healthOf(webhookId)).toMatchObject({ disabledAt, disabledReason: 'x' })
    },
  )
})

describe('noteReactivated', () => {
  test('tells those that we disabled and that are on again, once', async () => {
    const disabled = {
      failingSince: ago(20 * day),
      disabledAt: ago(9 * day),
      disabledReason: 'x',
      lastFailureAt: ago(day),
    }
    const [on, off, never] = [
      await webhook(disabled),
      await webhook(disabled, false),
      await webhook({ failingSince: ago(day) }),
    ]
    expect(await noteReactivated(database.db, [off, never])).toEqual([])
    expect(await noteReactivated(database.db, 'all')).toEqual([{ webhookId: on, siteId, name: 'Orders' }])
    expect(await noteReactivated(database.db, [on])).toEqual([])
    expect(await healthOf(on)).toMatchObject({
      failingSince: null,
      disabledAt: null,
      disabledReason: null,
      lastFailureAt: disabled.lastFailureAt,
    })
    expect(await healthOf(off)).toMatchObject(disabled)
    expect(await healthOf(never)).toMatchObject({ failingSince: expect.any(Date) })
  })

  test('a webhook that is disabled again at the same time stays disabled', async () => {
    const webhookId = await webhook({ disabledAt: ago(9 * day), disabledReason: 'before' }, false)
    await switchTo(webhookId, true)
    await database.db.transaction(async (tx) => {
      await disableWebhooks(tx, [webhookId], 'answered 410 Gone')
      expect(await noteReactivated(database.db, 'all')).toEqual([])
    })
    expect(await noteReactivated(database.db, 'all')).toEqual([])
    expect(await isOn(webhookId)).toBe(false)
    expect(await healthOf(webhookId)).toMatchObject({ disabledReason: 'answered 410 Gone' })
  })
})
