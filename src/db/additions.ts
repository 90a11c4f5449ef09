import { is } from 'drizzle-orm'
import { getTableConfig, PgTable } from 'drizzle-orm/pg-core'
import * as shared from './schema/shared.ts'

/** Comment that tells what we made on shared tables from what the main app made. */
export const madeByUs = 'Made by website-worker'

/** The spec's tables (and the main app's two) as the Drizzle schema declares them. */
export const sharedTables = Object.values(shared)
  .filter((value) => is(value, PgTable))
  .map((table) => getTableConfig(table))

/** An index on a shared table. */
export interface SharedIndex {
  name: string
  table: string
  unique: boolean
  /** Access method, keys and predicate, as `pg_get_indexdef` prints them. */
  definition: string
  /** Stays when the worker is uninstalled. */
  inSpec: boolean
  /** The worker must not start without it. */
  required: boolean
}

/** A trigger on a shared table. */
export interface SharedTrigger {
  name: string
  table: string
  /** What follows the table in `CREATE TRIGGER`. */
  definition: string
}

type Table = (typeof sharedTables)[number]

const specIndex = (name: string, table: string, definition: string): SharedIndex => ({
  name,
  table,
  unique: false,
  definition,
  inSpec: true,
  required: false,
})

const ourIndex = (name: string, table: string, definition: string): SharedIndex => ({
  ...specIndex(name, table, definition),
  inSpec: false,
})

const columnOf = (key: object) => ('name' in key && typeof key.name === 'string' ? key.name : '')

const specIndexesOf = (table: Table) =>
  table.indexes.map(({ config }) => ({
    name: config.name ?? '',
    columns: config.columns.map(columnOf),
  }))

/** Foreign keys that the spec leaves without an index: deleting their parent would scan the whole table. */
function foreignKeyIndexes(table: Table): SharedIndex[] {
  const leading = specIndexesOf(table).map((index) => index.columns[0])
  return table.foreignKeys
    .flatMap((key) => key.reference().columns[0]?.name ?? [])
    .filter((column) => !leading.includes(column))
    .map((column) => ourIndex(`idx_${table.name}_${column}`, table.name, `USING btree (${column})`))
}

const highTraffic = [
  { table: 'website_pages', columns: ['site_id', 'slug', 'status'] },
  { table: 'website_products', columns: ['site_id', 'status', 'is_featured'] },
  { table: 'website_products', columns: ['seo_slug', 'site_id'] },
  { table: 'website_orders', columns: ['site_id', 'status', 'created_at'] },
  { table: 'website_carts', columns: ['session_id', 'expires_at'] },
  { table: 'website_pageviews', columns: ['site_id', 'created_at'] },
  { table: 'website_events', columns: ['site_id', 'created_at'] },
  { table: 'website_webhook_deliveries', columns: ['webhook_id', 'id'] },
]

const fullText = [
  { table: 'website_pages', column: 'title' },
  { table: 'website_products', column: 'name' },
]

/** Name of the index that keeps the ledger at one row per webhook and event. */
export const ledgerIndexName = 'website_webhook_deliveries_webhook_event'

/**
 * Every index on shared tables, the spec's and ours: the one list for migration, doctor and uninstall.
 * Ledger rows up to `deliveryWatermark` are the main app's own and may repeat an event.
 */
export function sharedIndexes(deliveryWatermark: number): SharedIndex[] {
  return [
    ...sharedTables.flatMap((table) =>
      specIndexesOf(table).map(({ name, columns }) =>
        specIndex(name, table.name, `USING btree (${columns.join(', ')})`),
      ),
    ),
    ...sharedTables.flatMap(foreignKeyIndexes),
    ...highTraffic.map(({ table, columns }) =>
      ourIndex(`idx_${table}_${columns.join('_')}`, table, `USING btree (${columns.join(', ')})`),
    ),
    ...fullText.map(({ table, column }) =>
      ourIndex(
        `idx_${table}_${column}_search`,
        table,
        `USING gin (to_tsvector('simple'::regconfig, (${column})::text))`,
      ),
    ),
    ourIndex(
      'idx_website_pages_scheduled',
      'website_pages',
      "USING btree (publish_at, id) WHERE (((status)::text = 'scheduled'::text) AND (deleted_at IS NULL))",
    ),
    // What discovery looks through: new submissions by id.
    ourIndex(
      'idx_website_form_submissions_new',
      'website_form_submissions',
      `USING btree (id) WHERE ((status)::text = 'new'::text)`,
    ),
    // Products that ask to be synced.
    ourIndex(
      'idx_website_products_pending',
      'website_products',
      `USING btree (site_id, id) WHERE (((sync_status)::text = 'pending'::text) AND (deleted_at IS NULL))`,
    ),
    // Orders that the ERP doesn't know of.
    ourIndex(
      'idx_website_orders_unpushed',
      'website_orders',
      'USING btree (site_id, id) WHERE ((erp_order_id IS NULL) AND (erp_order_ref IS NULL))',
    ),
    {
      ...ourIndex(
        ledgerIndexName,
        'website_webhook_deliveries',
        `USING btree (webhook_id, event_id) WHERE (id > ${deliveryWatermark})`,
      ),
      unique: true,
      required: true,
    },
  ]
}

/** Name, in `public`, of the spec's trigger function. */
export const updatedAtFunction = 'update_updated_at_column'

const updatedAtTriggers: SharedTrigger[] = sharedTables
  .filter((table) => table.columns.some((column) => column.name === 'updated_at'))
  .map((table) => ({
    name: `update_${table.name}_updated_at`,
    table: table.name,
    definition: `BEFORE UPDATE ON public.${table.name} FOR EACH ROW EXECUTE FUNCTION public.${updatedAtFunction}()`,
  }))

const seenBy = {
  INSERT: 'REFERENCING NEW TABLE AS new_rows ',
  UPDATE: 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows ',
  DELETE: 'REFERENCING OLD TABLE AS old_rows ',
  TRUNCATE: '',
}

/** Tell the rollups which hours changed; once for each statement, on a partitioned table at its top. */
const analyticsTriggers: SharedTrigger[] = (['pageviews', 'events'] as const).flatMap((kind) =>
  Object.entries(seenBy).map(([verb, rows]) => ({
    name: `note_website_${kind}_${verb.toLowerCase()}`,
    table: `website_${kind}`,
    definition: `AFTER ${verb} ON public.website_${kind} ${rows}FOR EACH STATEMENT EXECUTE FUNCTION website_worker.note_analytics('${kind}')`,
  })),
)

/** Every trigger we keep on shared tables. */
export const sharedTriggers: readonly SharedTrigger[] = [...updatedAtTriggers, ...analyticsTriggers]

/** The statement that makes an index, as `pg_get_indexdef` prints it. */
export function createIndexStatement(index: SharedIndex, concurrently = false): string {
  const words = ['CREATE', ...(index.unique ? ['UNIQUE'] : []), 'INDEX', ...(concurrently ? ['CONCURRENTLY'] : [])]
  return `${words.join(' ')} ${index.name} ON public.${index.table} ${index.definition}`
}
