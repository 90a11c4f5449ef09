import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { classify, retryAfterMs } from '../../src/clients/classify.ts'
import type { Answer, NoAnswer } from '../../src/clients/http-sender.ts'

const now = Date.parse('2025-03-01T12:00:00Z')
const day = 24 * 3_600_000
const answer = (statusCode: number, retryAfter: string | null = null): Answer => ({
  kind: 'answer',
  statusCode,
  retryAfter,
  bodyText: null,
  durationMs: 1,
})

describe('classify', () => {
  test('takes every 2xx for delivered, 410 for gone and all others for worth another try', () => {
    for (let status = 200; status <= 999; status++) {
      const kind = status < 300 ? 'delivered' : status === 410 ? 'gone' : 'retry'
      expect(classify(answer(status), now), `${status}`).toMatchObject({ kind })
    }
  })

  test('takes 410 for the wish to get no more', () => {
    expect(classify(answer(410, '60'), now)).toEqual({
      kind: 'gone',
      error: 'answered 410 Gone: it wants no more events, so the webhook was disabled',
    })
  })

  test.each([
    [301, 'answered 301 Moved Permanently: redirects are not followed, so the URL must be the final one'],
    [304, 'answered 304 Not Modified'],
    [308, 'answered 308 Permanent Redirect: redirects are not followed, so the URL must be the final one'],
    [400, 'answered 400 Bad Request'],
    [401, 'answered 401 Unauthorized'],
    [404, 'answered 404 Not Found'],
    [408, 'answered 408 Request Timeout'],
    [413, 'answered 413 Payload Too Large'],
    [422, 'answered 422 Unprocessable Entity'],
    [429, 'answered 429 Too Many Requests'],
    [500, 'answered 500 Internal Server Error'],
    [503, 'answered 503 Service Unavailable'],
    [599, 'answered 599'],
    [799, 'answered 799'],
  ])('tries again after %d', (status, error) => {
    expect(classify(answer(status), now)).toEqual({ kind: 'retry', error, afterMs: null })
  })

  test.each(['timeout', 'network', 'aborted'] as const)('tries again after a failure of kind %s', (cause) => {
    const result: NoAnswer = { kind: 'none', cause, error: 'words', durationMs: 1 }
    expect(classify(result, now)).toEqual({ kind: 'retry', error: 'words', afterMs: null })
  })

  test.each(['refused', 'unusable'] as const)('gives up what is %s', (cause) => {
    expect(classify({ kind: 'none', cause, error: 'words', durationMs: 1 }, now)).toEqual({
      kind: 'failed',
      error: 'words',
    })
  })

  test('honours Retry-After of 429 and 503 alone', () => {
    expect(classify(answer(429, '7'), now)).toMatchObject({ kind: 'retry', afterMs: 7_000 })
    expect(classify(answer(503, 'Sat, 01 Mar 2025 13:00:00 GMT'), now)).toMatchObject({ afterMs: 3_600_000 })
    expect(classify(answer(500, '7'), now)).toMatchObject({ afterMs: null })
    expect(classify(answer(302, '7'), now)).toMatchObject({ afterMs: null })
    for (let status = 300; status <= 999; status++) {
      if (status === 410) continue
      const afterMs = status === 429 || status === 503 ? 7_000 : null
      expect(classify(answer(status, '7'), now), `${status}`).toMatchObject({ kind: 'retry', afterMs })
    }
  })
})

describe('retryAfterMs', () => {
  test.each([
    ['120', 120_000],
    [' 120 ', 120_000],
    ['86400', day],
    ['999999999999', day],
    ['Sat, 01 Mar 2025 12:00:30 GMT', 30_000],
    ['Saturday, 01-Mar-25 12:00:30 GMT', 30_000],
    ['Sat Mar  1 12:00:30 2025', 30_000],
    ['Sat, 01 Mar 2031 12:00:30 GMT', day],
    ['Sat, 01 Mar 2025 11:59:00 GMT', null],
    ['0', null],
    ['-5', null],
    ['1.5', null],
    ['1e3', null],
    ['soon', null],
    ['2025-03-01', null],
    ['Monday', null],
    ['Mon 2099', null],
    ['Sunny day 2099', null],
    ['Sat, 01 Mar 2031', null],
    ['Sat, 01 Mar 2031 12:00:30 +0100', null],
    ['Sat, 99 Mar 2031 12:00:30 GMT', null],
    ['Sat, 01 Foo 2031 12:00:30 GMT', null],
    ['120, 240', null],
    ['120s', null],
    ['+120', null],
    ['0x10', null],
    ['１２０', null],
    ['00120', 120_000],
    ['9'.repeat(400), day],
    ['', null],
    [null, null],
  ])('reads %j as %j ms', (value, expected) => {
    expect(retryAfterMs(value, now)).toBe(expected)
  })

  test('is never negative, never beyond a day, whatever it is given', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
        ),
        (value) => {
          const waitMs = retryAfterMs(value, now)
          return waitMs === null || (waitMs > 0 && waitMs <= day)
        },
      ),
    )
  })
})
