import { messageOf } from '../../errors.ts'
import type { ErpLevel, ErpPrice, ErpRecords, ErpReject, SyncType } from '../../erp.ts'
import { readMoney, readQuantity, readSku, readVersion, wrong } from './fields.ts'
import { idOf, readProduct, skuOf, type ProductRead } from './product.ts'
import { snapshotOf } from './snapshot.ts'

type Json = Readonly<Record<string, unknown>>

/** Whose row a record would be, for what can't be taken of each stream. */
const entities: Readonly<Record<SyncType, ErpReject['entity']>> = {
  product: 'product',
  inventory: 'variant',
  price: 'product',
}

/**
 * Checks the items of a page one by one: what can't be taken never keeps the others back. Of several records of one id, or
 * of one SKU's stock or price, the one with the highest version is taken, of equal ones the last.
 */
export function readRecords(
  type: SyncType,
  items: readonly unknown[],
  redact: (text: string) => string = (text) => text,
): ErpRecords {
  const records: ErpRecords = { products: [], tombstones: [], levels: [], prices: [], rejects: [] }
  const products = new Map<string, { version: string; read: ProductRead }>()
  const levels = new Map<string, ErpLevel>()
  const prices = new Map<string, ErpPrice>()

  const reject = (
    entity: ErpReject['entity'],
    of: { erpId: string | null; sku: string | null },
    reason: string,
    record: unknown,
  ) => void records.rejects.push({ entity, ...of, reason: redact(reason), snapshot: snapshotOf(record, redact) })

  for (const item of items) {
    try {
      const json = asObject(item)
      if (type === 'product') {
        const read = readProduct(json)
        const { erpId, version } = read.kind === 'product' ? read.product : read.tombstone
        keepNewest(products, erpId, { version, read })
      } else if (json['deleted'] !== true) {
        if (type === 'inventory') keepNewest(levels, readSku(json['sku']), readLevel(json))
        else keepNewest(prices, readSku(json['sku']), readPrice(json))
      }
    } catch (error) {
      const erpId = type === 'product' ? idOf(item) : null
      reject(entities[type], { erpId, sku: skuOf(item) }, messageOf(error), item)
    }
  }
  for (const { read } of products.values()) {
    if (read.kind === 'tombstone') records.tombstones.push(read.tombstone)
    else {
      records.products.push(read.product)
      // The id of its product would tell two of them apart no more.
      for (const { sku, reason, record } of read.rejects)
        reject('variant', { erpId: sku === null ? read.product.erpId : null, sku }, reason, record)
    }
  }
  records.levels.push(...levels.values())
  records.prices.push(...prices.values())
  return records
}

function asObject(item: unknown): Json {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) throw wrong('record', 'is no object')
  return item as Json
}

function keepNewest<R extends { version: string }>(records: Map<string, R>, key: string, record: R): void {
  const before = records.get(key)
  if (!before || BigInt(before.version) <= BigInt(record.version)) records.set(key, record)
}

function readLevel(json: Json): ErpLevel {
  return {
    sku: readSku(json['sku']),
    quantity: readQuantity(json['quantity'], 'quantity'),
    version: readVersion(json['version']),
  }
}

function readPrice(json: Json): ErpPrice {
  const price: ErpPrice = {
    sku: readSku(json['sku']),
    price: readMoney(json['price'], 'price'),
    version: readVersion(json['version']),
  }
  const compareAtPrice = json['compareAtPrice']
  if (compareAtPrice !== undefined)
    price.compareAtPrice = compareAtPrice === null ? null : readMoney(compareAtPrice, 'compareAtPrice')
  return price
}
