import { sql } from 'drizzle-orm'
import type { Tx } from '../../client.ts'
import { isDead, refuse, toOwner, type Refusal } from './matching.ts'
import { inHalves } from './halves.ts'
import { ints, isAtSite, isNews, stagedOf, toRows, type Traversal } from './products-staged.ts'
import type { SyncRun } from './run.ts'

/** A product that the ERP gave another SKU, and the row that has that SKU now. */
interface Rename {
  n: number
  id: number
  was: string
  sku: string
  hasVariants: boolean
  holder: number | null
  /** The ERP id that the holder belongs to; null: the shop's own. */
  owner: string | null
  isFree: boolean
  isDeleted: boolean | null
}

/**
 * Gives rows the SKUs that the ERP gave their products, all at once, so that SKUs can be swapped. One that another product
 * keeps can't be had, unless the ERP has done with that one. Returns the rows that have another SKU now.
 */
export async function renameProducts(tx: Tx, run: SyncRun, view: Traversal): Promise<number[]> {
  const wanted = await readRenames(tx, run, view)
  if (wanted.length === 0) return []
  const { accepted, refused } = judgeRenames(wanted)
  const found = await inHalves(tx, groupsOf(accepted), (inner, groups) => rename(inner, run, groups.flat()))
  const broken = found.flatMap(({ item, fault }) =>
    item.map(({ n, sku }) => ({ n, reason: `it can't have SKU ${sku}: ${fault}` })),
  )
  await refuse(tx, run, [...refused, ...broken])
  const left = new Set(broken.map(({ n }) => n))
  return accepted.flatMap(({ n, id }) => (left.has(n) ? [] : [id]))
}

async function readRenames(tx: Tx, run: SyncRun, view: Traversal): Promise<Rename[]> {
  // Primary keys, idx_website_products_sku, erp_ids_row.
  const { rows } = await tx.execute(
    sql`WITH wanted AS MATERIALIZED (
          SELECT s.n, p.id, p.sku AS was, s.sku, s.doc ? 'skus' AS "hasVariants"
          FROM website_worker.sync_staging s ${toRows(run)}
          WHERE ${stagedOf(run, 'product')} AND s.refusal IS NULL AND p.sku <> s.sku AND ${isNews})
        SELECT w.*, q.id AS holder, q.deleted_at IS NOT NULL AS "isDeleted", o.erp_id AS owner,
          q.id IS NULL OR q.deleted_at IS NULL AND o.erp_id IS NOT NULL AND ${isDead(view)} AS "isFree"
        FROM wanted w
        LEFT JOIN LATERAL (
          SELECT q.id, q.sku, q.deleted_at FROM public.website_products q
          WHERE ${isAtSite(sql`q`, run)} AND q.sku = w.sku OFFSET 0) q ON true ${toOwner(run)}
        ORDER BY w.n`,
  )
  return rows as unknown as Rename[]
}

/** Which SKUs can be had: those that nobody has, that their holder gives up for another it can have, or that are set free. */
function judgeRenames(wanted: readonly Rename[]): { accepted: Rename[]; refused: Refusal[] } {
  const accepted = new Map(wanted.map((rename) => [rename.id, rename]))
  const waiting = new Map<number, Rename>()
  for (const rename of wanted) if (rename.holder !== null) waiting.set(rename.holder, rename)
  const stuck = wanted.filter(({ holder, isFree }) => !isFree && holder !== null && !accepted.has(holder))
  const refused: Refusal[] = []
  for (let rename = stuck.pop(); rename; rename = stuck.pop()) {
    accepted.delete(rename.id)
    refused.push({ n: rename.n, reason: reasonOf(rename) })
    const next = waiting.get(rename.id)
    if (next && !next.isFree) stuck.push(next)
  }
  return { accepted: [...accepted.values()], refused }
}

function reasonOf({ sku, owner, isDeleted }: Rename): string {
  if (isDeleted) return `SKU ${sku} is that of a product that the shop has deleted`
  return owner === null
    ? `SKU ${sku} is that of a product of the shop's own`
    : `SKU ${sku} belongs to product ${owner} of the ERP`
}

/** Renames that only work together, since each takes the SKU that another gives up. */
function groupsOf(renames: readonly Rename[]): Rename[][] {
  const left = new Map(renames.map((rename) => [rename.id, rename]))
  const takers = new Map(
    renames.flatMap((rename) => (rename.holder === null ? [] : [[rename.holder, rename] as const])),
  )
  return renames.flatMap((rename) => {
    if (!left.delete(rename.id)) return []
    const group = [rename]
    for (const { id, holder } of group) {
      for (const next of [takers.get(id), holder === null ? undefined : left.get(holder)]) {
        if (next && left.delete(next.id)) group.push(next)
      }
    }
    return [group]
  })
}

async function rename(tx: Tx, run: SyncRun, renames: readonly Rename[]): Promise<void> {
  const ours = new Set(renames.map(({ id }) => id))
  const others = renames.flatMap(({ holder, isFree }) =>
    holder !== null && isFree && !ours.has(holder) ? [holder] : [],
  )
  const sorted = renames.toSorted((a, b) => a.id - b.id)
  await setFree(tx, run, others)
  const targets = new Set(renames.map(({ sku }) => sku))
  // Primary key. No reader ever sees these names: they are gone again before the transaction ends.
  await tx.execute(
    sql`UPDATE public.website_products p SET sku = gen_random_uuid()::text
        WHERE p.id = ANY (${ints(sorted.flatMap(({ id, was }) => (targets.has(was) ? [id] : [])))})`,
  )
  await setSkus(tx, run, JSON.stringify(sorted))
}

// Rows of products that the ERP has done with keep a SKU that nobody else will have.
async function setFree(tx: Tx, run: SyncRun, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return
  // Primary key.
  const { rows } = await tx.execute(
    sql`SELECT p.id, p.sku AS was, left(p.sku, 80) || '-retired-' || p.id AS sku, false AS "hasVariants"
        FROM public.website_products p WHERE p.id = ANY (${ints(ids)}) ORDER BY p.id`,
  )
  await setSkus(tx, run, JSON.stringify(rows))
}

/** Renames rows, and their default variants with them. */
async function setSkus(tx: Tx, { siteId, isFirst }: SyncRun, renames: string): Promise<void> {
  const list = sql`json_to_recordset(${renames}::json) AS r(id int, was text, sku text, "hasVariants" boolean)`
  // Primary keys; website_product_variants_product_id_sku_key.
  await tx.execute(
    sql`WITH renamed AS (
          UPDATE public.website_products p
          SET sku = r.sku, last_synced_at = CASE WHEN p.last_synced_at IS NOT NULL THEN now() AT TIME ZONE 'UTC' END
          FROM ${list} WHERE p.id = r.id AND p.deleted_at IS NULL RETURNING p.id
        ), variants AS (
          UPDATE public.website_product_variants v SET sku = r.sku
          FROM ${list}
          WHERE v.product_id = r.id AND v.sku = r.was AND NOT r."hasVariants" AND NOT EXISTS (
            SELECT FROM public.website_product_variants other WHERE other.product_id = r.id AND other.sku = r.sku)
          RETURNING v.product_id, r.was, r.sku
        ), kept AS (
          UPDATE website_worker.erp_products ep SET variants = array_replace(ep.variants, v.was, v.sku)
          FROM variants v WHERE ep.product_id = v.product_id)
        INSERT INTO website_worker.product_changes (site_id, product_id, changed)
        SELECT ${siteId}, renamed.id, '{sku}' FROM renamed WHERE NOT ${isFirst}`,
  )
}
