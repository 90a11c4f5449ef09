import { eq, sql } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { disableDomain, enableDomain, pauseDomain, resumeDomain } from '../../src/db/domains.ts'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import { work } from '../../src/db/schema/index.ts'
import { rollUpAnalyticsProcessor, type RollupSettings } from '../../src/processors/roll-up-analytics.ts'
import { rollUpAnalytics } from '../../src/queues/roll-up-analytics.ts'
import { createSite, workOf } from '../db/main-app.ts'
import { readRollups, recount } from '../db/rollups/recount.ts'
import { one, view } from '../db/rollups/rollup-fixtures.ts'
import { createStack, type Stack } from '../fixtures/stack.ts'

let stack: Stack
let siteId: number
const settings: Partial<RollupSettings> = {}

beforeEach(async () => {
  settings.freshMs = 0
  settings.visitorsMs = 0
  stack = await createStack({
    backend: 'redis',
    jobs: [
      {
        definition: { ...rollUpAnalytics, retry: { waitsMs: [0, 10, 10] } },
        processor: rollUpAnalyticsProcessor as never,
      },
    ],
    deps: { rollups: settings },
  })
  settings.db = stack.db
  siteId = await createSite(stack.db)
})
afterEach(() => stack.close())

const items = () => workOf(stack.db, 'roll-up-analytics')
const dirty = () => one<number>(stack.db, sql`SELECT count(*)::int FROM website_worker.analytics_dirty`)
const isExact = () =>
  vi.waitFor(async () => expect(await readRollups(stack.db)).toEqual(await recount(stack.db)), {
    timeout: 10_000,
    interval: 50,
  })

test('rolls up what is written without anyone asking, and again what comes meanwhile', async () => {
  stack.work()
  stack.dispatcher.start()
  await view(stack.db, siteId, { at: '2026-03-01 10:00', session: 'a' })
  await isExact()
  await view(stack.db, siteId, { at: '2026-03-01 10:05', session: 'a' }, { at: '2026-02-01 10:05', session: 'b' })
  await isExact()
})

test('owes one item for any number of writes, and none before the site is due again', async () => {
  await view(stack.db, siteId, {}, {}, {})
  await stack.dispatcher.tick()
  await view(stack.db, siteId, {})
  await stack.dispatcher.tick()
  expect(await items()).toMatchObject([{ state: 'owed', trigger: 'discovery', key: String(siteId), siteId }])
  settings.freshMs = 600_000
  stack.work()
  await vi.waitFor(async () => expect(await items()).toMatchObject([{ state: 'done' }]), 10_000)
  await view(stack.db, siteId, {})
  await stack.dispatcher.tick()
  expect(await items()).toHaveLength(1)
  await stack.db.execute(sql`UPDATE website_worker.rollup_sites SET next_at = now()`)
  await stack.dispatcher.tick()
  expect(await items()).toHaveLength(2)
})

test('owes nothing while rollups of the site are off, forgets what came then, and keeps what came in a pause', async () => {
  const { db } = stack
  await disableDomain(db, 'rollups', siteId)
  await view(db, siteId, {})
  await stack.dispatcher.tick()
  expect([await items(), await dirty()]).toEqual([[], 0])
  await enableDomain(db, 'rollups', siteId)
  await pauseDomain(db, siteId, 'rollups')
  await view(db, siteId, {})
  await stack.dispatcher.tick()
  expect([await items(), await dirty()]).toEqual([[], 1])
  await resumeDomain(db, siteId, 'rollups')
  await stack.dispatcher.tick()
  expect(await items()).toHaveLength(1)
})

test('does what was rung before the queue was wiped, once', async () => {
  await view(stack.db, siteId, { session: 'a' })
  await stack.dispatcher.tick()
  for (const { rungAt } of await items()) expect(rungAt).not.toBeNull()
  await stack.backend.queue('roll-up-analytics').obliterate({ force: true })
  await stack.db.execute(sql`UPDATE website_worker.epoch SET queue_id = 'another'`)
  stack.work()
  stack.dispatcher.start()
  await isExact()
})

test('tries again what failed, and has taken nothing from the log meanwhile', async () => {
  const { db } = stack
  await view(db, siteId, { session: 'a' })
  await db.execute(sql`ALTER TABLE website_analytics_dimensions_daily RENAME TO elsewhere`)
  const { workId } = await enqueueItem(db, 'roll-up-analytics', { siteId }, { rung: false })
  stack.work()
  stack.dispatcher.start()
  const stateOf = async () => (await db.select().from(work).where(eq(work.id, workId)))[0]!
  await vi.waitFor(async () => expect(await stateOf()).toMatchObject({ state: 'failed', attempts: 3 }), 10_000)
  expect(await dirty()).toBe(1)
  await db.execute(sql`ALTER TABLE elsewhere RENAME TO website_analytics_dimensions_daily`)
  await isExact()
})
