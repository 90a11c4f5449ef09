import { describe, expect, test } from 'vitest'
import { brakeOf } from '../../../src/processors/sync/brake.ts'
import { isFullDue, planRun } from '../../../src/processors/sync/plan.ts'
import { spreadSeconds } from '../../../src/queues/spread.ts'
import { syncProducts } from '../../../src/queues/sync-products.ts'

const hourMs = 3_600_000

describe('the nightly full run', () => {
  const site = { siteId: 7, timezone: 'Asia/Kolkata' }
  /** 02:00 there, and as much later as the site's turn is. */
  const dueMs = Date.parse('2026-03-01T20:30:00Z') + spreadSeconds('full product', 7, 7_200) * 1_000
  const isDue = (nowMs: number, ageHours: number, timezone: string | null = site.timezone) =>
    isFullDue({ ...site, timezone }, 'product', { nowMs, fullAtMs: nowMs - ageHours * hourMs })

  test('is due at night, by the clocks of the site', () => {
    expect(isDue(dueMs - 1_000, 23)).toBe(false)
    expect(isDue(dueMs, 23)).toBe(true)
    expect(isDue(Date.parse('2026-03-01T23:29:59Z'), 23)).toBe(true)
    expect(isDue(Date.parse('2026-03-01T23:30:00Z'), 23)).toBe(false)
    expect(isDue(dueMs, 23, 'UTC')).toBe(false)
  })

  test('comes once a night, and by day where a night was missed', () => {
    expect(isDue(dueMs, 3)).toBe(false)
    const noon = Date.parse('2026-03-02T06:30:00Z')
    expect(isDue(noon, 34)).toBe(false)
    expect(isDue(noon, 37)).toBe(true)
  })

  test('goes by UTC where there is no such timezone', () => {
    const night = Date.parse('2026-03-01T04:59:59Z')
    for (const timezone of [null, '', 'Mars/Olympus', "'; --"]) expect(isDue(night, 23, timezone)).toBe(true)
  })
})

describe('what a run reads', () => {
  const known = { source: 'erp', checkpoint: 'c9', fullAtMs: 1, nowMs: 2 }
  const plan = (payload: object, checkpoint: typeof known | undefined = known, isDue = false, source = 'erp') =>
    planRun({ siteId: 1, ...payload }, (payload as { skus?: string[] }).skus ? payload : {}, checkpoint, source, isDue)

  test.each([
    ['what changed', plan({}), 'incremental', 'c9'],
    ['everything, asked for', plan({ mode: 'full' }), 'full', null],
    ['everything, at night', plan({}, known, true), 'full', null],
    ['what changed, asked for, at night', plan({ mode: 'incremental' }, known, true), 'incremental', 'c9'],
    ['everything, of another ERP', plan({}, known, false, 'other'), 'full', null],
    ['everything, for an audit', plan({ audit: true }), 'full', null],
    ['some', plan({ skus: ['A'] }), 'targeted', null],
    ['everything, after versions were reset', plan({}, { ...known, checkpoint: null as never }), 'full', null],
  ])('is %s', (_, { mode, since, isFirst }, wanted, from) => {
    expect({ mode, since, isFirst }).toEqual({ mode: wanted, since: from, isFirst: false })
  })

  test('is everything the first time', () => {
    expect(planRun({ siteId: 1, mode: 'incremental' }, {}, undefined, 'erp', false)).toMatchObject({
      mode: 'full',
      isFirst: true,
    })
  })

  test.each([
    { mode: 'full', skus: ['A'] },
    { mode: 'incremental', audit: true },
    { skus: ['A'], audit: true },
    { skus: ['A'], asked: true },
    { skus: [] },
    { skus: ['x'.repeat(101)] },
    { asked: false },
  ])('can not be %j', (payload) => {
    expect(syncProducts.schema.safeParse({ siteId: 1, ...payload }).success).toBe(false)
  })
})

describe('the brake', () => {
  const none = { products: 1_000, losingPrice: 0, losingStock: 0, deactivated: 0 }
  const brake = (judgement: Partial<typeof none>) =>
    brakeOf({ type: 'product', siteId: 3, mode: 'full' }, { ...none, ...judgement })

  test('holds what is more than a fifth and more than fifty', () => {
    expect(brake({ losingStock: 200 })).toBeUndefined()
    expect(brake({ losingStock: 201 })).toContain('201 of 1,000 products (20 %) would lose all their stock')
    expect(brake({ products: 60, deactivated: 50 })).toBeUndefined()
    expect(brake({ products: 60, deactivated: 51 })).toContain('51 of 60 products (85 %) would become inactive')
    expect(brake({ losingPrice: 120, losingStock: 120 })).toBeUndefined()
  })

  test('names all there is, and what lets it pass', () => {
    expect(brake({ losingPrice: 900, deactivated: 300 })).toBe(
      'nothing was written: 900 of 1,000 products (90 %) would lose their price; 300 of 1,000 products (30 %) would become inactive. If that is right: website-worker sync products --site 3 --full --force',
    )
  })
})
