import { messageOf } from '../../errors.ts'
import type { ErpProduct, ErpTombstone, ErpVariant } from '../../erp.ts'
import {
  readFilledText,
  readId,
  readJson,
  readList,
  readMoney,
  readObject,
  readSku,
  readText,
  readVersion,
  readWeight,
  readWord,
  wrong,
} from './fields.ts'

type Json = Readonly<Record<string, unknown>>

const statuses = ['active', 'inactive', 'draft'] as const
const mostVariants = 1_000
const mostImages = 200
const mostCategories = 100
const longestName = 255
const longestUrl = 10_000

/** A variant that can't be taken. */
export interface VariantReject {
  sku: string | null
  reason: string
  record: unknown
}

/** What one record of the product stream is. */
export type ProductRead =
  | { kind: 'tombstone'; tombstone: ErpTombstone }
  /** `rejects`: variants that it goes on without. */
  | { kind: 'product'; product: ErpProduct; rejects: readonly VariantReject[] }

/** Sets a field unless it is missing; null stays null. */
function set<T, Key extends keyof T & string>(
  to: T,
  key: Key,
  value: unknown,
  read: (value: unknown, field: string) => T[Key] & {},
): void {
  if (value !== undefined) to[key] = value === null ? (null as T[Key]) : read(value, key)
}

const name = (value: unknown, field: string) => readText(value, field, longestName)
const url = (value: unknown, field: string) => readText(value, field, longestUrl)

/** Reads a record of the product stream. @throws AppError `invalid` naming the field that is wrong */
export function readProduct(json: Json): ProductRead {
  const erpId = readId(json['id'])
  const version = readVersion(json['version'])
  if (json['deleted'] === true)
    return { kind: 'tombstone', tombstone: { erpId, sku: json['sku'] == null ? null : readSku(json['sku']), version } }
  const product: ErpProduct = {
    erpId,
    sku: readSku(json['sku']),
    name: readFilledText(json['name'], 'name', longestName),
    price: readMoney(json['price'], 'price'),
    version,
  }
  set(product, 'description', json['description'], readText)
  set(product, 'shortDescription', json['shortDescription'], readText)
  set(product, 'compareAtPrice', json['compareAtPrice'], readMoney)
  set(product, 'cost', json['cost'], readMoney)
  if (json['status'] != null) product.status = readWord(json['status'], 'status', statuses)
  set(product, 'weight', json['weight'], readWeight)
  set(product, 'dimensions', json['dimensions'], (value, field) => readJson(value as object, field))
  readExtras(json, product)
  return { kind: 'product', product, rejects: readVariants(json['variants'], product) }
}

/** Lists and objects: null empties them. */
function readExtras(json: Json, product: ErpProduct): void {
  const { attributes, images, categories } = json
  if (attributes !== undefined) product.attributes = attributes === null ? {} : readObject(attributes, 'attributes')
  if (images !== undefined) product.images = images === null ? [] : readImages(images)
  if (categories === undefined) return
  const slugs = categories === null ? [] : readList(categories, 'categories', mostCategories)
  product.categories = [...new Set(slugs.map((slug) => readFilledText(slug, 'categories', longestName)))]
}

function readImages(value: unknown): unknown[] {
  const images = readList(value, 'images', mostImages)
  const odd = images.findIndex((image) => typeof image !== 'string' && (typeof image !== 'object' || image === null))
  if (odd >= 0) throw wrong('images', `entry ${odd + 1} is neither a URL nor an object`)
  return readJson(images, 'images')
}

function readVariants(value: unknown, product: ErpProduct): readonly VariantReject[] {
  if (value === undefined) return []
  const records = value === null ? [] : readList(value, 'variants', mostVariants)
  const variants: ErpVariant[] = []
  const rejects: VariantReject[] = []
  const skus = new Set<string>()
  for (const [index, record] of records.entries()) {
    try {
      const variant = readVariant(record)
      if (skus.has(variant.sku)) throw wrong('sku', 'is that of another variant of the product')
      skus.add(variant.sku)
      variants.push(variant)
    } catch (error) {
      rejects.push({ sku: skuOf(record), reason: `variants.${index}.${messageOf(error)}`, record })
    }
  }
  const [first] = rejects
  // Without any it would become a product that never had variants.
  if (first && variants.length === 0) throw wrong('variants', `none can be taken: ${first.reason}`)
  product.variants = variants
  if (first) product.keepsVariants = true
  return rejects
}

function readVariant(record: unknown): ErpVariant {
  if (typeof record !== 'object' || record === null || Array.isArray(record)) throw wrong('sku', 'is missing')
  const json = record as Json
  const variant: ErpVariant = { sku: readSku(json['sku']) }
  set(variant, 'name', json['name'], name)
  set(variant, 'price', json['price'], readMoney)
  set(variant, 'compareAtPrice', json['compareAtPrice'], readMoney)
  const { attributes } = json
  if (attributes !== undefined) variant.attributes = attributes === null ? {} : readObject(attributes, 'attributes')
  set(variant, 'imageUrl', json['imageUrl'], url)
  set(variant, 'weight', json['weight'], readWeight)
  return variant
}

/** The SKU of a record that is wrong otherwise. */
export function skuOf(record: unknown): string | null {
  return readable(() => readSku((record as Json)['sku']))
}

/** The id of a record that is wrong otherwise. */
export function idOf(record: unknown): string | null {
  return readable(() => readId((record as Json)['id']))
}

function readable(read: () => string): string | null {
  try {
    return read()
  } catch {
    return null
  }
}
