import type { ErpProduct, ErpRecords, ErpReject } from '../../../erp.ts'
import type { StagedRow } from './staging.ts'

function productRow({ erpId, sku, version, ...fields }: ErpProduct): StagedRow {
  const doc: typeof fields & { skus?: string[] } = fields
  if (doc.categories) doc.categories = [...new Set(doc.categories)]
  if (doc.variants && doc.variants.length > 0) doc.skus = doc.variants.map((variant) => variant.sku)
  return { kind: 'product', erpId, sku, version, doc }
}

function rejectRow({ erpId, sku, ...doc }: ErpReject, isOnly: boolean): StagedRow {
  return { kind: 'reject', erpId: isOnly ? erpId : null, sku, version: null, doc: { ...doc, erpId } }
}

/** A page of products, one row for each ERP id: the highest version; what is bad stands beside what is good. */
export function productRows({
  products,
  tombstones,
  rejects,
}: Pick<ErpRecords, 'products' | 'tombstones' | 'rejects'>): StagedRow[] {
  const named = new Map<string, StagedRow>()
  const take = (erpId: string, version: string, row: () => StagedRow) => {
    const known = named.get(erpId)?.version
    if (!known || BigInt(version) >= BigInt(known)) named.set(erpId, row())
  }
  for (const product of products) take(product.erpId, product.version, () => productRow(product))
  for (const { erpId, sku, version } of tombstones) {
    take(erpId, version, () => ({ kind: 'tombstone', erpId, sku, version, doc: null }))
  }
  const unnamed: StagedRow[] = []
  for (const reject of rejects) {
    const { entity, erpId } = reject
    if (entity === 'product' && erpId !== null && !named.has(erpId)) named.set(erpId, rejectRow(reject, true))
    else unnamed.push(rejectRow(reject, false))
  }
  return [...named.values(), ...unnamed]
}

/** A page of stock. */
export const levelRows = ({ levels, rejects }: ErpRecords): StagedRow[] => [
  ...levels.map((level): StagedRow => ({ kind: 'level', ...level })),
  ...rejectRows(rejects),
]

/** A page of prices; `doc` says whether the ERP spoke of a compare-at price. */
export const priceRows = ({ prices, rejects }: ErpRecords): StagedRow[] => [
  ...prices.map((price): StagedRow => ({
    kind: 'price',
    doc: price.compareAtPrice === undefined ? null : true,
    ...price,
  })),
  ...rejectRows(rejects),
]

const rejectRows = (rejects: readonly ErpReject[]) =>
  productRows({ products: [], tombstones: [], rejects: [...rejects] })
