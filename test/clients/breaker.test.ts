import { expect, test } from 'vitest'
import { createBreaker } from '../../src/clients/breaker.ts'

/** How many failures of one kind in a row it takes. */
function failuresUntilBroken(durationMs: number): number {
  const breaker = createBreaker({ lastsMs: 0 })
  for (let n = 1; ; n++) if (breaker.note('a', false, durationMs)) return n
}

test('no burst of failures is a last straw before they have gone on for seconds', () => {
  let now = 0
  const breaker = createBreaker({ now: () => now })
  for (let n = 0; n < 1_000; n++) expect(breaker.note('a', false, 0)).toBe(false)
  now = 4_999
  expect(breaker.note('a', false, 0)).toBe(false)
  now = 5_000
  expect(breaker.note('a', false, 0)).toBe(true)
})

test('a request that was under way for longer counts from its beginning', () => {
  const breaker = createBreaker({ now: () => 20_000 })
  expect([1, 2, 3].map(() => breaker.note('a', false, 15_000))).toEqual([false, false, true])
})

test('a hundred quick failures in a row are the last straw, and three that took the whole time', () => {
  expect(failuresUntilBroken(0)).toBe(100)
  expect(failuresUntilBroken(1_000)).toBe(25)
  expect(failuresUntilBroken(15_000)).toBe(3)
  expect(failuresUntilBroken(120_000)).toBe(1)
})

test('one answer in between starts the count anew', () => {
  const breaker = createBreaker({ breaksAt: 3, lastsMs: 0 })
  expect([false, false, true, false, false].map((ok) => breaker.note('a', ok, 0))).not.toContain(true)
  expect(breaker.note('a', false, 0)).toBe(true)
})

test('breaks once, and counts anew from there', () => {
  const breaker = createBreaker({ breaksAt: 2, lastsMs: 0 })
  expect([1, 2, 3, 4].map(() => breaker.note('a', false, 0))).toEqual([false, true, false, true])
})

test('remotes do not count for one another', () => {
  const breaker = createBreaker({ breaksAt: 2, lastsMs: 0 })
  expect(breaker.note('a', false, 0)).toBe(false)
  expect(breaker.note('b', true, 0)).toBe(false)
  expect(breaker.note('b', false, 0)).toBe(false)
  expect(breaker.note('a', false, 0)).toBe(true)
})
