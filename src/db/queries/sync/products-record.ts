import { sql, type SQL } from 'drizzle-orm'
import type { Traversal } from './products-staged.ts'

// What a staged product `s` says, in SQL.

/** The ERP's id as INTEGER, where it is one. */
export const erpNumber: SQL = sql`
  CASE WHEN s.erp_id ~ '^[1-9][0-9]{0,9}$' THEN CASE WHEN s.erp_id::bigint <= 2147483647 THEN s.erp_id::int END END`

/** Field by field, as `d`. */
export const asProduct: SQL = sql`jsonb_to_record(s.doc) AS d(
  name text, description text, "shortDescription" text, price numeric(10, 2), "compareAtPrice" numeric(10, 2),
  cost numeric(10, 2), status text, weight numeric(10, 2), dimensions jsonb, attributes jsonb, images jsonb)`

/** A field that the ERP writes, its column and how it is told from what was there. */
export interface ProductField {
  name: string
  column: string
  /** Written only when the ERP's own value changes: an edit in the shop stays. */
  isShared: boolean
  isRequired?: true
}

export const productFields: readonly ProductField[] = [
  { name: 'name', column: 'name', isShared: true, isRequired: true },
  { name: 'description', column: 'description', isShared: true },
  { name: 'shortDescription', column: 'short_description', isShared: true },
  { name: 'attributes', column: 'attributes', isShared: true },
  { name: 'images', column: 'images', isShared: true },
  { name: 'price', column: 'price', isShared: false, isRequired: true },
  { name: 'compareAtPrice', column: 'compare_at_price', isShared: false },
  { name: 'cost', column: 'cost', isShared: false },
  { name: 'weight', column: 'weight', isShared: false },
  { name: 'dimensions', column: 'dimensions', isShared: false },
]

/** Whether the ERP names a field. One that is missing is none of its business; one that is null is emptied. */
export const isSent = ({ name, isRequired }: ProductField): SQL => sql.raw(isRequired ? 'true' : `s.doc ? '${name}'`)

/** MD5 by field of what the shop may edit and the ERP sent, of `s` and `d`: an object. */
export const hashes: SQL = sql`jsonb_strip_nulls(jsonb_build_object(${sql.join(
  productFields
    .filter(({ isShared }) => isShared)
    .map((field) => {
      const { name } = field
      return sql`${sql.raw(`'${name}'`)}, CASE WHEN ${isSent(field)} THEN md5(coalesce(${sql.raw(`d."${name}"`)}::text, '')) END`
    }),
  sql`, `,
)}))`

/** SKUs of its variants; of one that has none, its own: `own`. */
export const variantSkus = (own: SQL): SQL => sql`
  CASE WHEN s.doc ? 'skus' THEN ARRAY(SELECT jsonb_array_elements_text(s.doc -> 'skus')) ELSE ARRAY[${own}::text] END`

/** SKUs of variants as they are kept: in order, where some that had been there may be kept beside them. */
export const keptVariantSkus = (skus: SQL, had: SQL = sql`'{}'::text[]`): SQL => sql`
  CASE WHEN s.doc ? 'keepsVariants' THEN ARRAY(SELECT unnest(${had}) UNION SELECT unnest(${skus}) ORDER BY 1) ELSE ${skus} END`

/** Its variants as objects; one of its own SKU, `own`, where it names none. */
export const variantDocs = (own: SQL): SQL => sql`
  CASE WHEN s.doc ? 'skus' THEN s.doc -> 'variants' ELSE jsonb_build_array(jsonb_build_object('sku', ${own})) END`

/** Slugs that it names and the site has, in its order. */
export const knownCategories = ({ categories }: Traversal): SQL => sql`
  ARRAY(SELECT named.slug FROM jsonb_array_elements_text(s.doc -> 'categories') WITH ORDINALITY AS named(slug, at)
        WHERE named.slug = ANY (${sql.param(categories)}::text[]) ORDER BY named.at)`
