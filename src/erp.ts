/** The streams of an ERP; also `website_sync_logs.sync_type`. */
export type SyncType = 'product' | 'inventory' | 'price'

/**
 * How much of a stream a run reads: everything, ending with a sweep of what is no longer there; what changed since the
 * checkpoint; or what was asked for by SKU.
 */
export type SyncMode = 'full' | 'incremental' | 'targeted'

/**
 * A product as the ERP has it, checked: texts fit their columns and are storable, money is a decimal string with at most
 * two places. A field that is missing is none of the ERP's business; null empties it.
 */
export interface ErpProduct {
  erpId: string
  sku: string
  name: string
  description?: string | null
  shortDescription?: string | null
  price: string
  compareAtPrice?: string | null
  cost?: string | null
  status?: 'active' | 'inactive' | 'draft'
  weight?: string | null
  dimensions?: unknown
  attributes?: Record<string, unknown>
  images?: unknown[]
  /** Slugs of website_categories, the primary one first. */
  categories?: string[]
  /** Empty or missing: the product has one default variant, of its own SKU. */
  variants?: ErpVariant[]
  /** Some of its variants can't be taken, and are among the rejects: none that the shop has is removed meanwhile. */
  keepsVariants?: true
  /** Grows with every change: nanoseconds since 1970 of an instant, or the ERP's own counter; as an integer's digits. */
  version: string
}

export interface ErpVariant {
  sku: string
  name?: string | null
  price?: string | null
  compareAtPrice?: string | null
  attributes?: Record<string, unknown>
  imageUrl?: string | null
  weight?: string | null
}

/** A product that the ERP no longer has. */
export interface ErpTombstone {
  erpId: string
  sku: string | null
  version: string
}

export interface ErpLevel {
  sku: string
  quantity: number
  version: string
}

export interface ErpPrice {
  sku: string
  price: string
  compareAtPrice?: string | null
  version: string
}

/** A record that can't be taken as it is. */
export interface ErpReject {
  entity: 'product' | 'variant'
  /** What could be read of it: it still counts as present in the ERP. */
  erpId: string | null
  sku: string | null
  /** For people, naming the field. */
  reason: string
  /** What came, redacted, storable and cut to a few kilobytes. */
  snapshot: unknown
}

/** What one page of a stream holds, record by record. */
export interface ErpRecords {
  products: ErpProduct[]
  tombstones: ErpTombstone[]
  levels: ErpLevel[]
  prices: ErpPrice[]
  rejects: ErpReject[]
}
