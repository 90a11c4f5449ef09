import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { generateDrizzleJson, generateMigration } from 'drizzle-kit/api'
import { expect, test } from 'vitest'
import { readJournal } from '../../src/db/migrate.ts'
import { packageRoot } from '../../src/db/package-root.ts'
import * as schema from '../../src/db/schema/index.ts'
import { createTestDatabase } from '../fixtures/database.ts'
import { type CatalogueKind, readCatalogue } from './catalogue.ts'
import { applySpec, specTables } from './spec-database.ts'

const kinds: CatalogueKind[] = ['column', 'constraint', 'index', 'trigger']
const tables = [...specTables, 'users', 'partners']

test("makes every table as the spec's own SQL does, and adds nothing but the listed indexes and triggers", async () => {
  const spec = await createTestDatabase({ template: 'empty' })
  const ours = await createTestDatabase()
  try {
    await applySpec(spec.pool)
    const wanted = await readCatalogue(spec.pool, { kinds, tables })
    const live = await readCatalogue(ours.pool, { kinds, tables })
    expect(specTables).toHaveLength(27)
    expect(wanted.filter((line) => !live.includes(line))).toEqual([])
    expect(live.filter((line) => !wanted.includes(line)).map(nameIn)).toEqual(additions)
  } finally {
    await spec.drop()
    await ours.drop()
  }
})

const nameIn = (line: string) => /(?:INDEX|TRIGGER) (\w+)/.exec(line)?.[1] ?? line

const additions = [
  'idx_website_cart_items_variant_id',
  'idx_website_carts_session_id_expires_at',
  'idx_website_events_site_id_created_at',
  'idx_website_form_submissions_new',
  'idx_website_media_uploaded_by',
  'idx_website_order_items_variant_id',
  'idx_website_order_status_history_changed_by',
  'idx_website_orders_site_id_status_created_at',
  'idx_website_orders_unpushed',
  'idx_website_page_versions_author_id',
  'idx_website_pages_author_id',
  'idx_website_pages_scheduled',
  'idx_website_pages_site_id_slug_status',
  'idx_website_pages_title_search',
  'idx_website_pageviews_site_id_created_at',
  'idx_website_products_name_search',
  'idx_website_products_pending',
  'idx_website_products_seo_slug_site_id',
  'idx_website_products_site_id_status_is_featured',
  'idx_website_sites_theme_id',
  'idx_website_webhook_deliveries_webhook_id_id',
  'website_webhook_deliveries_webhook_event',
  'note_website_events_delete',
  'note_website_events_insert',
  'note_website_events_truncate',
  'note_website_events_update',
  'note_website_pageviews_delete',
  'note_website_pageviews_insert',
  'note_website_pageviews_truncate',
  'note_website_pageviews_update',
  'update_website_blocks_updated_at',
  'update_website_cart_items_updated_at',
  'update_website_carts_updated_at',
  'update_website_categories_updated_at',
  'update_website_domains_updated_at',
  'update_website_form_submissions_updated_at',
  'update_website_forms_updated_at',
  'update_website_integrations_updated_at',
  'update_website_media_updated_at',
  'update_website_orders_updated_at',
  'update_website_pages_updated_at',
  'update_website_product_variants_updated_at',
  'update_website_products_updated_at',
  'update_website_promotions_updated_at',
  'update_website_themes_updated_at',
  'update_website_webhooks_updated_at',
]

test('keeps the migrations in step with the Drizzle schema', async () => {
  const last = readJournal().at(-1)?.tag.slice(0, 4)
  const snapshot = JSON.parse(readFileSync(join(packageRoot(), `drizzle/meta/${last}_snapshot.json`), 'utf8'))
  const declared = generateDrizzleJson(schema, undefined, ['public', 'website_worker'])
  expect(await generateMigration(snapshot, declared)).toEqual([])
})
