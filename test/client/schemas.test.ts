import { expect, test } from 'vitest'
import { z } from 'zod'
import { newEventSchema } from '../../src/client/schemas.ts'

const valid = { siteId: 1, event: 'order.created', data: { a: 1 } }
const wrong = (event: unknown) =>
  newEventSchema.safeParse(event).error?.issues.map(({ path, code }) => [path.join('.'), code])

test('takes any JSON value as data, but not its absence', () => {
  for (const data of [null, false, 0, '', [], {}, '\u0000\ud800']) {
    expect(newEventSchema.parse({ ...valid, data })).toEqual({ ...valid, data })
  }
  expect(wrong({ siteId: 1, event: 'order.created' })).toEqual([['data', 'custom']])
})

test('names every field that is wrong', () => {
  expect(
    wrong({ ...valid, siteId: 2 ** 31, event: 'x', id: 'a b', occurredAt: '2026-01-01T00:00:00', extra: 1 }),
  ).toEqual([
    ['siteId', 'too_big'],
    ['event', 'invalid_value'],
    ['id', 'invalid_format'],
    ['occurredAt', 'invalid_format'],
    ['', 'unrecognized_keys'],
  ])
  for (const siteId of [0, -1, 1.5, '1', null]) expect(wrong({ ...valid, siteId })![0]![0]).toBe('siteId')
  for (const id of ['', 'a\n', 'x'.repeat(256)]) expect(wrong({ ...valid, id })).toEqual([['id', 'invalid_format']])
})

test('takes an instant with any offset', () => {
  for (const occurredAt of ['2026-01-01T00:00:00Z', '2026-01-01T05:30:00.123+05:30']) {
    expect(newEventSchema.parse({ ...valid, occurredAt })).toMatchObject({ occurredAt })
  }
})

test('refuses data nested too deep to be written, without falling over', () => {
  const nested = (levels: number) => JSON.parse('['.repeat(levels) + ']'.repeat(levels)) as unknown
  expect(wrong({ ...valid, data: nested(100) })).toBeUndefined()
  expect(wrong({ ...valid, data: nested(100_000) })).toEqual([['data', 'custom']])
})

test('says in its JSON Schema that data is required', () => {
  expect(z.toJSONSchema(newEventSchema, { io: 'input' })).toMatchObject({ required: ['siteId', 'event', 'data'] })
})
