import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AppError } from '../../src/errors.ts'
import { deliverWebhook } from '../../src/queues/deliver-webhook.ts'
import { nextWaitMs, parseRetrySchedule } from '../../src/queues/retry-schedule.ts'

const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

describe('parseRetrySchedule', () => {
  test('reads the default schedule as it is written in the design', () => {
    expect(parseRetrySchedule('0s,5s,5m,30m,2h,5h,10h,14h,20h,24h')).toEqual(deliverWebhook.retry.waitsMs)
    expect(parseRetrySchedule(' 0s , 1.5h, 1d ')).toEqual([0, 5_400_000, 86_400_000])
  })

  test('reads every schedule of whole numbers and units', () => {
    const part = fc.record({ count: fc.nat(30), unit: fc.constantFrom(...(['s', 'm', 'h', 'd'] as const)) })
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 20 }), (parts) => {
        const text = parts.map(({ count, unit }) => `${count}${unit}`).join(',')
        expect(parseRetrySchedule(text)).toEqual(parts.map(({ count, unit }) => count * unitMs[unit]))
      }),
    )
  })

  test.each(['', '5', '-5s', '5 s', '5s,,5m', '1w', 'soon', '1e3s', '31d', '99999999999999999999d', '0s,NaNs'])(
    'names the part of %j that is wrong',
    (text) => {
      expect(() => parseRetrySchedule(text)).toThrow(AppError)
      expect(() => parseRetrySchedule(text)).toThrow(/^retry schedule: ".*" is /)
    },
  )

  test('refuses a schedule without end', () => {
    expect(() => parseRetrySchedule('1s,'.repeat(200) + '1s')).toThrow('201 waits')
  })
})

describe('nextWaitMs', () => {
  test('strays from the schedule by no more than the jitter, and ends with it', () => {
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
    fc.assert(
      fc.property(fc.array(fc.nat(1e9), { maxLength: 12 }), fc.nat(14), random, (waitsMs, done, value) => {
        const wait = nextWaitMs({ waitsMs, jitter: 0.2 }, done, () => value)
        const planned = waitsMs[done]
        if (wait === null || planned === undefined) return wait === null && planned === undefined
        return wait >= Math.floor(planned * 0.8) && wait <= Math.ceil(planned * 1.2)
      }),
    )
  })

  test('keeps to the schedule where no jitter is wanted', () => {
    expect(nextWaitMs({ waitsMs: [0, 5_000] }, 1, () => 0.99)).toBe(5_000)
  })
})
