import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { customHeaders } from '../../src/clients/custom-headers.ts'

describe('customHeaders', () => {
  test('passes plain names and values on', () => {
    const headers = { Authorization: 'Bearer x', 'X-Shop': 7, 'x-live': true, 'X-Name': 'caf\u00e9' }
    const pairs = ['Authorization', 'Bearer x', 'X-Shop', '7', 'x-live', 'true', 'X-Name', 'café']
    expect(customHeaders(headers)).toEqual({ pairs, leftOut: [] })
  })

  test.each([null, undefined, [], ['X-A', 'b'], 'X-A: b', 7, true, {}])('finds no headers in %j', (value) => {
    expect(customHeaders(value)).toEqual({ pairs: [], leftOut: [] })
  })

  test.each([
    'Webhook-Id',
    'webhook-timestamp',
    'WEBHOOK-SIGNATURE',
    'Content-Type',
    'Content-Length',
    'Content-Encoding',
    'Host',
    'Transfer-Encoding',
    'Connection',
    'Keep-Alive',
    'Proxy-Authorization',
    'Proxy-Connection',
    'TE',
    'Trailer',
    'Upgrade',
    'Expect',
    'User-Agent',
  ])('leaves %s to us', (name) => {
    expect(customHeaders({ [name]: 'x', 'x-a': 'b' })).toEqual({ pairs: ['x-a', 'b'], leftOut: [name] })
  })

  test.each([
    ['x-a', 'b\r\nhost: evil'],
    ['x-a', 'b\nc'],
    ['x-a', 'b\u0000c'],
    ['x-a', '✓'],
    ['x-a', ['b']],
    ['x-a', { b: 1 }],
    ['x-a', null],
    ['x-a', 'b'.repeat(20_000)],
    ['x a', 'b'],
    ['x:a', 'b'],
    ['x-a\r\nhost', 'b'],
    ['', 'b'],
    ['ü', 'b'],
  ])('leaves %j: %j out', (name, value) => {
    expect(customHeaders({ [name]: value, 'x-ok': 'yes' })).toEqual({ pairs: ['x-ok', 'yes'], leftOut: [name] })
  })

  test('takes the first of names that differ only in case', () => {
    expect(customHeaders({ 'X-A': '1', 'x-a': '2' })).toEqual({ pairs: ['X-A', '1'], leftOut: ['x-a'] })
  })

  test('lets nothing through that a header line cannot hold', () => {
    const anything = fc.dictionary(
      fc.string({ unit: 'binary' }),
      fc.oneof(fc.string({ unit: 'binary' }), fc.jsonValue()),
    )
    fc.assert(
      fc.property(anything, (value) => {
        const { pairs, leftOut } = customHeaders(value)
        expect(pairs.length / 2 + leftOut.length).toBe(Object.keys(value).length)
        return pairs.every((text) => /^[\t\x20-\x7e\x80-\xff]*$/.test(text))
      }),
    )
  })
})
