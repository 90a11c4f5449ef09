import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { readEnvelope } from '../../../src/clients/erp/envelope.ts'
import { readRecords } from '../../../src/clients/erp/records.ts'
import type { SyncType } from '../../../src/erp.ts'
import { startErp, type Erp } from '../../fixtures/erp.ts'

interface Schema {
  examples?: unknown[]
  [key: string]: unknown
}
interface Document {
  openapi: string
  paths: Record<string, Record<string, { parameters: { $ref?: string; name?: string }[] }>>
  components: { schemas: Record<string, Schema>; parameters: Record<string, { name: string }> }
}
const text = readFileSync(new URL('../../../docs/erp-openapi.json', import.meta.url), 'utf8')
const document = JSON.parse(text) as Document
const { schemas, parameters } = document.components
const $defs = JSON.parse(JSON.stringify(schemas).replaceAll('#/components/schemas/', '#/$defs/')) as Record<
  string,
  Schema
>
/** What a schema of the document says of a value: nothing, if it is right. */
function problemsOf(name: string, value: unknown): unknown[] {
  const schema = z.fromJSONSchema({ $ref: `#/$defs/${name}`, $defs } as never)
  return schema.safeParse(value).error?.issues ?? []
}

const streams = [
  ['products', 'ProductsPage', 'product'],
  ['inventory', 'InventoryPage', 'inventory'],
  ['prices', 'PricesPage', 'price'],
] as const

let erp: Erp
beforeEach(async () => {
  erp = await startErp()
})
afterEach(() => erp.close())

describe('the document', () => {
  test('refers to nothing that it does not have', () => {
    expect(document.openapi).toBe('3.1.0')
    const refs = [...text.matchAll(/"\$ref": "#\/components\/(schemas|parameters)\/(\w+)"/g)]
    expect(refs.length).toBeGreaterThan(30)
    for (const [, kind, name] of refs) expect(document.components[kind as 'schemas']).toHaveProperty(name!)
  })

  test('names every parameter that we send', () => {
    const sent = ['limit', 'site', 'since', 'cursor', 'skus']
    for (const [path] of streams) {
      const named = document.paths[`/${path}`]!['get']!.parameters.map(
        ({ $ref }) => parameters[$ref!.split('/').at(-1)!]!.name,
      )
      expect(named.toSorted()).toEqual(sent.toSorted())
    }
  })

  test.each(
    Object.entries(schemas).flatMap(([name, { examples = [] }]) => examples.map((example) => [name, example] as const)),
  )('has an example of %s that is right', (name, example) => {
    expect(problemsOf(name, example)).toEqual([])
  })

  test.each(streams)('has an example of a page of %s that we take whole', (_, name, type) => {
    const [example] = schemas[name]!.examples as [{ items: unknown[] }]
    expect(readEnvelope(example)).not.toHaveProperty('problem')
    const { rejects, ...lists } = readRecords(type as SyncType, example.items)
    expect(rejects).toEqual([])
    expect(Object.values(lists).flat()).toHaveLength(example.items.length)
  })
})

describe('what the document calls wrong', () => {
  const product = { id: 1, sku: 'A', name: 'Mug', price: '1.00', version: 1 }
  test.each([
    [{ price: '1,00' }],
    [{ price: '-1' }],
    [{ price: null }],
    [{ sku: '' }],
    [{ sku: ' A' }],
    [{ name: 'x'.repeat(256) }],
    [{ status: 'archived' }],
    [{ version: 'yesterday' }],
    [{ version: undefined }],
    [{ images: 'x' }],
    [{ attributes: 7 }],
    [{ weight: 'heavy' }],
  ])('we do not take either: %j', (wrong) => {
    const record = JSON.parse(JSON.stringify({ ...product, ...wrong })) as object
    expect(problemsOf('Product', record)).not.toEqual([])
    expect(readRecords('product', [record]).rejects).toHaveLength(1)
  })
})

test.each(streams)('the ERP that tests and demo run against answers %s as the document says', async (path, name) => {
  erp.products.set({ id: 1, sku: 'A', name: 'Mug', price: 1.5, variants: [{ sku: 'A-R' }], weight: null })
  erp.products.set({ id: 2, sku: 'B', name: 'Jug', price: '2' })
  erp.inventory.set({ sku: 'A-R', quantity: 3 })
  erp.prices.set({ sku: 'A', price: '1.50', compareAtPrice: null })
  const ask = async (query = '') =>
    (await fetch(`${erp.url}/${path}?limit=1${query}`)).json() as Promise<{ checkpoint: string }>
  const first = await ask()
  expect(problemsOf(name, first)).toEqual([])
  erp.products.delete('2')
  const since = await ask(`&since=${first.checkpoint}`)
  expect(problemsOf(name, since)).toEqual([])
  expect(since).toHaveProperty('items.length', path === 'products' ? 1 : 0)
})
