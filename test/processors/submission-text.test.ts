import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { boundedFields, emailOf, textOf } from '../../src/processors/submission-text.ts'

describe('a line of text', () => {
  test.each([
    ['  Ann \r\n Bee\t', 'Ann Bee'],
    ['a\0b\u001b[31m\u0085', 'ab[31m'],
    [12.5, '12.5'],
    [true, 'true'],
    [['a', 'b', 3], 'a, b, 3'],
    ['half \ud83d', 'half \ufffd'],
    ['', undefined],
    [' \n ', undefined],
    [null, undefined],
    [undefined, undefined],
    [{ a: 1 }, undefined],
    [[{ a: 1 }], undefined],
  ])('of %j is %j', (value, expected) => {
    expect(textOf(value, 100)).toBe(expected)
  })

  test('is cut between characters', () => {
    expect(textOf('ab😀', 3)).toBe('ab')
    expect(textOf('a\nb', 10, true)).toBe('a\nb')
  })
})

test.each([
  ['ann@example.com', 'ann@example.com'],
  [' ann@example.com\n', 'ann@example.com'],
  ['ann@example.com\r\nBcc: x@example.com', undefined],
  ['ann@example.com, bob@example.com', undefined],
  ['Ann <ann@example.com>', undefined],
  [`${'a'.repeat(250)}@example.com`, undefined],
  [['ann@example.com'], undefined],
  [null, undefined],
])('an e-mail address of %j is %j', (value, expected) => {
  expect(emailOf(value)).toBe(expected)
})

describe('fields', () => {
  test('are what was submitted, as long as that is of a sane size', () => {
    const data = { name: 'Ann', topics: ['a', 1, null, true], nested: { a: { b: 'c' } } }
    expect(boundedFields(data)).toEqual(data)
  })

  test('say what was left out', () => {
    expect(boundedFields({ long: 'x'.repeat(50_000) })['long']).toMatch(/^x{20000}… \[shortened: 50000 characters\]$/)
    expect(boundedFields({ list: Array(150).fill(1) })['list']).toHaveLength(101)
    const many = boundedFields(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`f${i}`, i])))
    expect(Object.keys(many)).toHaveLength(201)
    expect(many['…']).toBe('[shortened: 500 fields]')
  })

  test('of anything are JSON of bounded size that Postgres can store', () => {
    const characters = fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)) })
    fc.assert(
      fc.property(
        fc.object({ key: characters, values: [characters, fc.double(), fc.constant(null)], maxDepth: 8 }),
        (data) => {
          const json = JSON.stringify(boundedFields(data))
          expect(json.length).toBeLessThan(400_000)
          // An escape, and not one that stands in a text.
          expect(json).not.toMatch(/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/i)
        },
      ),
    )
  })

  test('of a huge tree stay small', () => {
    const wide = (depth: number): unknown => (depth === 0 ? 'x' : Array.from({ length: 30 }, () => wide(depth - 1)))
    expect(JSON.stringify(boundedFields({ tree: wide(4) })).length).toBeLessThan(250_000)
    expect(boundedFields('text')).toEqual({ value: 'text' })
  })
})

test('neither nesting nor length is too much to read', () => {
  const nested: unknown = JSON.parse(`${'['.repeat(50_000)}${']'.repeat(50_000)}`)
  expect(boundedFields({ nested, name: 'Ann' })).toEqual({ nested: [[[['[nested too deep]']]]], name: 'Ann' })
  expect(emailOf(`a@${'a.'.repeat(5_000_000)}!`)).toBeUndefined()
})
