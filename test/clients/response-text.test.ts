import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { storableText } from '../../src/clients/response-text.ts'

describe('storableText', () => {
  test('keeps text as it is', () => {
    expect(storableText(Buffer.from('ok ✓ 😀'), 100)).toBe('ok ✓ 😀')
    expect(storableText(Buffer.alloc(0), 100)).toBeNull()
  })

  test('cuts between characters', () => {
    for (let max = 0; max <= 12; max++)
      expect('a😀✓üb'.startsWith(storableText(Buffer.from('a😀✓üb'), max) ?? '')).toBe(true)
    expect(storableText(Buffer.from('a😀✓'), 7)).toBe('a😀')
  })

  test('replaces what PostgreSQL cannot store', () => {
    expect(storableText(Buffer.from('no\0 go'), 100)).toBe('no\uFFFD go')
    expect(storableText(Buffer.from([0x6f, 0x6b, 0xff]), 100)).toBe('ok\uFFFD')
  })

  test('only names what is not text', () => {
    const gzip = Buffer.from('1f8b0800000000000003cb48cdc9c95728cf2fca49e10200', 'hex')
    expect(storableText(gzip, 100, 'application/gzip')).toBe('[binary answer, application/gzip]')
    expect(storableText(Buffer.alloc(50), 100)).toBe('[binary answer]')
  })

  test('gives storable text of at most the wanted size for any bytes', () => {
    const name = '[binary answer]'.length
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: name, max: 150 }), (bytes, max) => {
        const text = storableText(Buffer.from(bytes), max) ?? ''
        return Buffer.byteLength(text) <= max && !/[\0\p{Cs}]/u.test(text)
      }),
    )
  })
})
