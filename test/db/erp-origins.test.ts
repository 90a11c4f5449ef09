import { randomUUID } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { leavePlace, takePlace, type CallOutcome, type Place } from '../../src/db/queries/erp-origins.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { explaining } from '../fixtures/plans.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

const erp = 'https://erp.example'
beforeEach(() => database.db.execute(sql`TRUNCATE website_worker.erp_origins, website_worker.erp_calls`))

const fast = { maxConcurrent: 4, requestsPerSecond: 1_000_000 }
const take = async (limits = fast, leaseMs = 60_000, origin = erp) => {
  const token = randomUUID()
  return { token, ...(await takePlace(database.db, origin, limits, { token, leaseMs })) }
}
const leave = (taken: { token: string } & Place, outcome: CallOutcome = { kind: 'answered' }) =>
  leavePlace(database.db, erp, taken as { token: string; place: number }, outcome)
async function fail(times: number) {
  for (let n = 0; n < times; n++) await leave(await take(), { kind: 'failed' })
}
/** As if so much time had passed. */
const pass = (seconds: number) =>
  database.db.execute(
    sql`UPDATE website_worker.erp_origins SET open_until = open_until - ${seconds} * interval '1 s',
          paced_until = paced_until - ${seconds} * interval '1 s'`,
  )

describe('places', () => {
  test('are as many as may be in flight, whoever asks at once', async () => {
    const places = await Promise.all(Array.from({ length: 40 }, () => take()))
    const taken = places.filter((each) => each.kind === 'taken')
    expect(taken.length).toBeGreaterThan(0)
    // Who lost a place to another process asks again.
    while (taken.length < 4) {
      const each = await take()
      if (each.kind === 'taken') taken.push(each)
    }
    expect(taken.map((each) => 'place' in each && each.place).toSorted()).toEqual([1, 2, 3, 4])
    expect(await take()).toMatchObject({ kind: 'none', why: 'busy' })
    expect(await take(fast, 60_000, 'https://other.example')).toMatchObject({ kind: 'taken' })
  })

  test('are free again once left, or when their time is over, and only by whom they belong to', async () => {
    const one = { ...fast, maxConcurrent: 1 }
    const first = await take(one)
    await leave({ ...first, token: randomUUID() })
    expect(await take(one)).toMatchObject({ why: 'busy' })
    await leave(first)
    const second = await take(one, -1)
    const third = await take(one)
    expect(third).toMatchObject({ kind: 'taken', place: 1 })
    await leave(second)
    expect(await take(one)).toMatchObject({ why: 'busy' })
  })
})

test('the pace allows a few calls at once, then one at a time', async () => {
  const slow = { maxConcurrent: 8, requestsPerSecond: 0.1 }
  for (let n = 0; n < 4; n++) expect(await take(slow)).toMatchObject({ kind: 'taken' })
  const none = (await take(slow)) as Place & { kind: 'none' }
  expect(none.why).toBe('paced')
  expect(none.ms).toBeGreaterThan(0)
  expect(none.ms).toBeLessThanOrEqual(10_000)
  await pass(10)
  expect(await take(slow)).toMatchObject({ kind: 'taken' })
  expect(await take(slow)).toMatchObject({ why: 'paced' })
  await pass(1_000)
  for (let n = 0; n < 3; n++) expect(await take(slow)).toMatchObject({ kind: 'taken' })
  expect(await take(slow)).toMatchObject({ why: 'busy' })
})

describe('the breaker', () => {
  test('opens after failures in a row, and an answer among them counts', async () => {
    await fail(7)
    await leave(await take())
    await fail(7)
    expect(await take()).toMatchObject({ kind: 'taken' })
    await fail(1)
    const open = (await take()) as Place & { kind: 'none' }
    expect(open.why).toBe('open')
    expect(open.ms).toBeGreaterThan(0)
    expect(open.ms).toBeLessThanOrEqual(5_000)
  })

  test('lets one call through then, stays open twice as long when that fails, and closes when it is answered', async () => {
    await fail(8)
    await pass(5)
    const probe = await take()
    expect(probe).toMatchObject({ kind: 'taken' })
    expect(await take()).toMatchObject({ why: 'busy' })
    await leave(probe, { kind: 'failed' })
    expect(((await take()) as { ms: number }).ms).toBeGreaterThan(5_000)
    await pass(10)
    await leave(await take())
    for (let n = 0; n < 4; n++) expect(await take()).toMatchObject({ kind: 'taken' })
  })

  test('is open for ten minutes at most', async () => {
    await fail(8)
    for (let n = 0; n < 20; n++) {
      await pass(600)
      await fail(1)
    }
    const { ms, why } = (await take()) as { ms: number; why: string }
    expect(why).toBe('open')
    expect(ms).toBeGreaterThan(500_000)
    expect(ms).toBeLessThanOrEqual(600_000)
  })

  test('counts the calls that were under way when it opened once', async () => {
    const calls = [await take(), await take(), await take()]
    await fail(8)
    for (const call of calls) await leave(call, { kind: 'failed' })
    const { ms } = (await take()) as { ms: number }
    expect(ms).toBeLessThanOrEqual(5_000)
  })

  test('hears nothing from a call that was broken off by us', async () => {
    await fail(7)
    await leave(await take(), { kind: 'unknown' })
    expect(await take()).toMatchObject({ kind: 'taken' })
    await fail(1)
    expect(await take()).toMatchObject({ why: 'open' })
  })
})

describe('an ERP that asks to be left alone', () => {
  test('is, whatever earlier calls are answered with', async () => {
    const early = await take()
    await leave(await take(), { kind: 'failed', askedMs: 90_000 })
    await leave(early)
    const none = (await take()) as Place & { kind: 'none' }
    expect(none.why).toBe('asked')
    expect(none.ms).toBeGreaterThan(60_000)
    await pass(90)
    const both = [await take(), await take()]
    expect(both).toMatchObject([{ kind: 'taken' }, { kind: 'taken' }])
  })

  test('for an hour at most', async () => {
    await leave(await take(), { kind: 'answered', askedMs: 86_400_000 })
    expect(((await take()) as { ms: number }).ms).toBeLessThanOrEqual(3_600_000)
  })
})

test('taking and leaving use the keys, and an ERP that just answers is left unwritten', async () => {
  const { db, plans } = explaining(database.db)
  await database.db.execute(
    sql`INSERT INTO website_worker.erp_origins (origin) SELECT 'https://' || n FROM generate_series(1, 5000) n`,
  )
  await database.db.execute(
    sql`INSERT INTO website_worker.erp_calls (origin, place, token, until)
        SELECT 'https://' || n, 1, gen_random_uuid(), now() FROM generate_series(1, 5000) n`,
  )
  await database.db.execute(sql`ANALYZE website_worker.erp_origins, website_worker.erp_calls`)
  await take()
  const xmin = async () =>
    (await database.db.execute(sql`SELECT xmin FROM website_worker.erp_origins WHERE origin = ${erp}`)).rows
  const token = randomUUID()
  const found = await takePlace(db, erp, fast, { token, leaseMs: 1_000 })
  const before = await xmin()
  await leavePlace(db, erp, { token, place: (found as { place: number }).place }, { kind: 'answered' })
  expect(await xmin()).toEqual(before)
  expect(plans).toHaveLength(2)
  for (const plan of plans) expect(plan).not.toContain('Seq Scan')
})
