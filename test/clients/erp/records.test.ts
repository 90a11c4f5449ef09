import { describe, expect, test } from 'vitest'
import fc from 'fast-check'
import { readRecords } from '../../../src/clients/erp/records.ts'
import type { SyncType } from '../../../src/erp.ts'

const product = { id: 1, sku: 'A-1', name: 'Mug', price: '9.90', version: 1 }
const read = (items: unknown[], type: SyncType = 'product') => readRecords(type, items)
const one = (fields: object) => read([{ ...product, ...fields }])
const reasonOf = (fields: object) => {
  const { products, rejects } = one(fields)
  expect(products).toEqual([])
  expect(rejects).toHaveLength(1)
  return rejects[0]!.reason
}

describe('a product', () => {
  test('comes through with all it has, null where it is emptied and nothing where nothing is said', () => {
    expect(one({}).products).toEqual([{ erpId: '1', sku: 'A-1', name: 'Mug', price: '9.90', version: '1' }])
    const full = {
      description: null,
      shortDescription: '',
      compareAtPrice: null,
      cost: '0007.5',
      status: 'draft',
      weight: '0.125',
      dimensions: { w: 1.5 },
      attributes: { colour: 'red' },
      images: ['https://cdn.example/a.png', { url: 'https://cdn.example/b.png', alt: 'b' }],
      categories: ['mugs', 'gifts', 'mugs'],
      variants: [
        { sku: 'A-1-R', name: null, price: 12, attributes: null, imageUrl: 'https://x.example', weight: null },
      ],
    }
    expect(one(full)).toMatchObject({ rejects: [], tombstones: [], levels: [], prices: [] })
    expect(one(full).products[0]).toEqual({
      erpId: '1',
      sku: 'A-1',
      name: 'Mug',
      price: '9.90',
      version: '1',
      description: null,
      shortDescription: '',
      compareAtPrice: null,
      cost: '7.50',
      status: 'draft',
      weight: '0.13',
      dimensions: { w: 1.5 },
      attributes: { colour: 'red' },
      images: full.images,
      categories: ['mugs', 'gifts'],
      variants: [
        { sku: 'A-1-R', name: null, price: '12.00', attributes: {}, imageUrl: 'https://x.example', weight: null },
      ],
    })
    const emptied = one({ attributes: null, images: null, categories: null, variants: null, status: null }).products[0]
    expect(emptied).toEqual({ ...one({}).products[0], attributes: {}, images: [], categories: [], variants: [] })
  })

  test.each([
    ['9', '9.00'],
    ['9.9', '9.90'],
    ['9.900000', '9.90'],
    ['0', '0.00'],
    ['-0.00', '0.00'],
    ['0009.90', '9.90'],
    ['99999999.99', '99999999.99'],
    [19.99, '19.99'],
    [99_999_999.99, '99999999.99'],
    [0.1, '0.10'],
    [1e3, '1000.00'],
  ])('costs %j as %s', (price, expected) => {
    expect(one({ price }).products[0]!.price).toBe(expected)
  })

  test.each([
    [{ price: '-5.00' }, 'price: "-5.00" is negative'],
    [{ price: '1.005' }, 'price: "1.005" has more than two decimal places'],
    [{ price: 0.1 + 0.2 }, 'price: 0.30000000000000004 has more than two decimal places'],
    [{ price: '100000000.00' }, 'price: "100000000.00" is more than 99999999.99'],
    [{ price: 1e21 }, 'price: 1e+21 is too large to be exact'],
    [{ price: 1e-9 }, 'price: 1e-9 is too small to be exact'],
    [{ price: '1,99' }, 'price: "1,99" is no decimal number like "19.90"'],
    [{ price: '' }, 'price: "" is no decimal number'],
    [{ price: '٣' }, 'price: "٣" is no decimal number'],
    [{ price: null }, 'price: is missing'],
    [{ price: undefined }, 'price: is missing'],
    [{ price: { amount: '1' } }, 'price: an object is no decimal number'],
    [{ compareAtPrice: '-1' }, 'compareAtPrice: "-1" is negative'],
    [{ cost: 'free' }, 'cost: "free" is no decimal number'],
    [{ weight: -1 }, 'weight: -1 is negative'],
    [{ weight: '99999999.995' }, 'weight: "99999999.995" is more than 99999999.99'],
    [{ sku: '' }, 'sku: is empty'],
    [{ sku: '  ' }, 'sku: is empty'],
    [{ sku: 'A-1 ' }, 'sku: "A-1 " begins or ends with a blank'],
    [{ sku: 'A\n1' }, 'sku: holds a control character'],
    [{ sku: 'x'.repeat(101) }, 'sku: has 101 characters; at most 100 are possible'],
    [{ sku: 17 }, 'sku: 17 is no text'],
    [{ name: 'n'.repeat(400) }, 'name: has 400 characters; at most 255 are possible'],
    [{ name: '' }, 'name: is empty'],
    [{ name: 'n\0n' }, 'name: holds a NUL character'],
    [{ name: 'n\ud800' }, 'name: holds half of a character'],
    [{ name: 'x'.repeat(1_000_000) }, 'name: has more than 100000 characters; at most 255 are possible'],
    [{ description: 'x'.repeat(1_000_000) }, 'description: has more than 100000 characters'],
    [{ attributes: { a: ['\0'] } }, 'attributes: holds a NUL character'],
    [{ attributes: { '\udc00': 1 } }, 'attributes: holds half of a character'],
    [{ attributes: [] }, 'attributes: a list is no object'],
    [{ attributes: { a: Number.POSITIVE_INFINITY } }, 'attributes: holds a number out of range'],
    [{ attributes: { a: Array.from({ length: 3_000 }, () => 0) } }, 'attributes: holds more than 2000 values'],
    [{ images: 'https://x.example' }, 'images: "https://x.example" is no list'],
    [{ images: [7] }, 'images: entry 1 is neither a URL nor an object'],
    [{ categories: [''] }, 'categories: is empty'],
    [{ status: 'archived' }, 'status: "archived" is none of active, inactive, draft'],
    [{ id: undefined }, 'id: is missing'],
    [{ id: 2 ** 60 }, 'id: is too large to be exact: send it as text'],
    [{ id: 1.5 }, 'id: is no whole number'],
    [{ id: '' }, 'id: is empty'],
    [{ version: undefined }, 'version: is missing'],
    [{ version: '2026-03-01' }, 'version: "2026-03-01" is neither a whole number nor an instant'],
    [{ version: '2026-03-01T12:00:00' }, 'version: "2026-03-01T12:00:00" is neither'],
    [{ version: '2026-02-30T12:00:00Z' }, 'version: "2026-02-30T12:00:00Z" is neither'],
    [{ version: '2026-03-01T12:00:00+25:00' }, 'version: "2026-03-01T12:00:00+25:00" is neither'],
    [{ version: 2 ** 60 }, 'version: is too large to be exact'],
    [{ variants: {} }, 'variants: an object is no list'],
    [{ variants: [{ sku: '' }] }, 'variants: none can be taken: variants.0.sku: is empty'],
  ])('with %j is refused', (fields, reason) => {
    expect(reasonOf(fields)).toContain(reason)
  })

  test('nested out of all proportion is refused', () => {
    const deep = JSON.parse('['.repeat(5_000) + ']'.repeat(5_000)) as unknown
    expect(reasonOf({ dimensions: deep })).toBe('dimensions: is nested more than 8 levels deep')
  })

  test('keeps names of 255 characters as Postgres counts them', () => {
    const name = '🙂'.repeat(255)
    expect(one({ name }).products[0]!.name).toBe(name)
    expect(reasonOf({ name: `${name}!` })).toBe('name: has 256 characters; at most 255 are possible')
  })

  test.each([
    [12, '12'],
    ['0012', '12'],
    ['123456789012345678901234567890', '123456789012345678901234567890'],
    ['1970-01-01T00:00:01Z', '1000000000'],
    ['1970-01-01T01:00:01+01:00', '1000000000'],
    ['1969-12-31 19:00:01.000000001-0500', '1000000001'],
    ['2026-03-01T12:00:00.123456789Z', '1772366400123456789'],
  ])('has version %j as %s', (version, expected) => {
    expect(one({ version }).products[0]!.version).toBe(expected)
  })

  test('that is refused still tells its id and SKU', () => {
    expect(one({ name: '' }).rejects[0]).toMatchObject({ entity: 'product', erpId: '1', sku: 'A-1' })
    expect(one({ sku: '' }).rejects[0]).toMatchObject({ erpId: '1', sku: null })
    expect(one({ id: {} }).rejects[0]).toMatchObject({ erpId: null, sku: 'A-1' })
    expect(read([null, 'x', [], 7]).rejects).toHaveLength(4)
    expect(read([null]).rejects[0]).toMatchObject({ erpId: null, sku: null, reason: 'record: is no object' })
  })
})

describe('a page', () => {
  test('is taken without what is wrong in it', () => {
    const { products, rejects } = read([{ ...product, price: '-1' }, { ...product, id: 2, sku: 'B' }, 5])
    expect(products.map(({ sku }) => sku)).toEqual(['B'])
    expect(rejects).toHaveLength(2)
  })

  test('with a record twice gives the newer one, whether it is a tombstone or not', () => {
    const older = { ...product, version: 99, name: 'old' }
    const newer = { ...product, version: '100', name: 'new' }
    for (const items of [
      [older, newer],
      [newer, older],
    ])
      expect(read(items).products).toMatchObject([{ name: 'new' }])
    const gone = { id: '1', version: 101, deleted: true }
    expect(read([gone, newer])).toMatchObject({ products: [], tombstones: [{ erpId: '1', sku: null, version: '101' }] })
    expect(
      read(
        [
          { sku: 'A', quantity: 1, version: 5 },
          { sku: 'A', quantity: 2, version: 4 },
        ],
        'inventory',
      ).levels,
    ).toEqual([{ sku: 'A', quantity: 1, version: '5' }])
  })

  test('of stock or prices is checked likewise', () => {
    const { levels, rejects } = read(
      [
        { sku: 'A', quantity: -2, version: 1 },
        { sku: 'B', quantity: '12.000', version: 1 },
        { sku: 'C', quantity: 1.5, version: 1 },
        { sku: 'D', quantity: 3_000_000_000, version: 1 },
        { sku: 'E', version: 1 },
        { sku: 'F', deleted: true, version: 1 },
      ],
      'inventory',
    )
    expect(levels.map(({ quantity }) => quantity)).toEqual([-2, 12])
    expect(rejects.map(({ entity, sku, reason }) => [entity, sku, reason])).toEqual([
      ['variant', 'C', 'quantity: 1.5 is no whole number'],
      ['variant', 'D', 'quantity: 3000000000 is out of range'],
      ['variant', 'E', 'quantity: is missing'],
    ])
    const prices = read(
      [
        { sku: 'A', price: 1, version: 1 },
        { sku: 'B', price: '2', compareAtPrice: null, version: 1 },
        { sku: 'C', price: '2', compareAtPrice: 'x', version: 1 },
      ],
      'price',
    )
    expect(prices.prices).toEqual([
      { sku: 'A', price: '1.00', version: '1' },
      { sku: 'B', price: '2.00', compareAtPrice: null, version: '1' },
    ])
    expect(prices.rejects).toMatchObject([{ entity: 'product', erpId: null, sku: 'C' }])
  })
})

describe('variants that can not be taken', () => {
  test('are left out, told one by one, and keep the others of the shop from being removed', () => {
    const variants = [{ sku: 'R' }, { sku: 'G', price: '-1' }, { sku: 'R' }, { price: 1 }, null]
    const { products, rejects } = one({ variants })
    expect(products).toMatchObject([{ variants: [{ sku: 'R' }], keepsVariants: true }])
    expect(rejects).toMatchObject([
      { entity: 'variant', erpId: null, sku: 'G', reason: 'variants.1.price: "-1" is negative' },
      { entity: 'variant', erpId: null, sku: 'R', reason: 'variants.2.sku: is that of another variant of the product' },
      { entity: 'variant', erpId: '1', sku: null, reason: 'variants.3.sku: is missing' },
      { entity: 'variant', erpId: '1', sku: null },
    ])
    expect(one({ variants: [{ sku: 'R' }] }).products[0]).not.toHaveProperty('keepsVariants')
  })
})

describe('the snapshot of what is refused', () => {
  const snapshotOf = (record: object, redact?: (text: string) => string) =>
    readRecords('product', [{ ...product, name: '', ...record }], redact).rejects[0]!

  test('is storable, bounded and without secrets', () => {
    const { snapshot, reason } = snapshotOf(
      {
        sku: 'token-123 ',
        description: `\0 token-123 \ud800 ${'x'.repeat(1_000_000)}`,
        '\0key': [Number.POSITIVE_INFINITY],
      },
      (text) => text.replaceAll('token-123', '[redacted]'),
    )
    expect(reason).toBe('sku: "[redacted] " begins or ends with a blank')
    const json = JSON.stringify(snapshot)
    expect(Buffer.byteLength(json)).toBeLessThanOrEqual(4_096)
    expect(json).not.toMatch(/\\u0000|\\ud800|token-123/)
    expect(snapshot).toMatchObject({
      id: 1,
      description: expect.stringContaining('[redacted]'),
      '\uFFFDkey': ['Infinity'],
    })
  })

  test('of a record out of all proportion is cut', () => {
    const wide = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`field ${n}`, 'é'.repeat(300)]))
    expect(Buffer.byteLength(JSON.stringify(snapshotOf(wide).snapshot))).toBeLessThanOrEqual(4_096)
    expect(snapshotOf({ deep: JSON.parse('['.repeat(9_000) + ']'.repeat(9_000)) }).snapshot).toMatchObject({ id: 1 })
  })

  test('of a record with properties that objects have is only data', () => {
    const record = JSON.parse(
      '{"id":1,"__proto__":{"polluted":true},"constructor":"x","attributes":{"__proto__":1}}',
    ) as object
    const { snapshot } = read([record]).rejects[0]!
    expect(JSON.stringify(snapshot)).toContain('"__proto__":{"polluted":true}')
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  })
})

test('whatever JSON comes, each record is taken or refused', () => {
  const fields = [
    'id',
    'sku',
    'name',
    'price',
    'version',
    'variants',
    'attributes',
    'images',
    'status',
    'deleted',
    'quantity',
  ]
  const record = fc.dictionary(fc.constantFrom(...fields), fc.jsonValue({ stringUnit: 'binary' }), {
    maxKeys: 12,
  })
  fc.assert(
    fc.property(
      fc.array(fc.oneof(record, fc.jsonValue())),
      fc.constantFrom('product', 'inventory', 'price'),
      (items, type) => {
        const { products, tombstones, levels, prices, rejects } = readRecords(type as SyncType, items)
        const whole = rejects.filter(({ reason }) => !reason.startsWith('variants.'))
        expect(products.length + tombstones.length + levels.length + prices.length + whole.length).toBeLessThanOrEqual(
          items.length,
        )
        for (const { reason, snapshot } of rejects) {
          expect(reason).toMatch(/^[a-zA-Z.0-9]+: ./)
          expect(JSON.stringify(snapshot)).not.toContain('\\u0000')
        }
      },
    ),
    { numRuns: 200 },
  )
})
