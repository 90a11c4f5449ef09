import { randomBytes } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { createClient } from '../client/index.ts'
import { websiteWebhooks } from '../db/schema/integrations.ts'
import { websiteSites } from '../db/schema/sites.ts'
import { startDemoErp } from './erp.ts'
import { startReceiver } from './receiver.ts'
import type { DemoContext, DemoRow } from './webhooks.ts'

/** Products, stock and prices of a small ERP; one record can't be taken; a new price there is told to a webhook. */
export async function demoSync({
  db,
  apiUrl,
  apiKey,
  until,
}: DemoContext): Promise<{ rows: DemoRow[]; close(): Promise<void> }> {
  const erp = await startDemoErp()
  const secret = `whsec_${randomBytes(24).toString('base64')}`
  const receiver = await startReceiver(secret, () => 200)
  const client = createClient({ url: apiUrl, apiKey })
  // Only when it is asked to, so that what happens here does so in order.
  const schedule = { products: 'off', inventory: 'off', prices: 'off' }
  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'Demo shop', domain: `erp-${Date.now()}.example`, settings: { erp: { url: erp.url, schedule } } })
    .returning({ id: websiteSites.id })
  const siteId = site?.id ?? 0

  const sync = async (job: string) => {
    const { jobId } = await client.enqueue(job, { siteId })
    const ended = await until(async () => {
      const view = await client.getJob(job, jobId)
      return view.state === 'completed' || view.state === 'failed' ? view : undefined
    })
    return ended?.state === 'completed'
  }
  const done = {
    products: await sync('sync-products'),
    inventory: await sync('sync-inventory'),
    prices: await sync('sync-prices'),
  }
  const { rows: shop } = await db.execute(sql`
    SELECT count(*)::int AS products, sum(p.price)::text AS prices, sum(v.inventory_quantity)::int AS stock
    FROM website_products p JOIN website_product_variants v ON v.product_id = p.id WHERE p.site_id = ${siteId}`)
  const { rows: quarantine } = await db.execute(
    sql`SELECT sku, reason FROM website_worker.sync_quarantine WHERE site_id = ${siteId} AND resolved_at IS NULL`,
  )

  await db
    .insert(websiteWebhooks)
    .values({ siteId, name: 'search', event: 'product.updated', targetUrl: receiver.url, secret })
  erp.reprice('WARE-2', '79.90')
  const repriced = await sync('sync-prices')
  const told = await until(async () => {
    const { rows } = await db.execute(sql`
      SELECT e.body::jsonb -> 'data' AS data FROM website_webhook_deliveries d
      JOIN website_worker.events e ON e.site_id = ${siteId} AND e.id = d.event_id
      WHERE e.event = 'product.updated' AND d.delivered_at IS NOT NULL`)
    return rows[0]?.data as { sku: string; changed: string[] } | undefined
  })
  const [row] = shop
  const rows: DemoRow[] = [
    {
      job: 'sync-products',
      what: 'six wares of the demo ERP',
      result: `${row?.products} products`,
      ok: done.products && row?.products === 5,
    },
    {
      job: '',
      what: 'one of them costs -5.00',
      result: quarantine.map(({ sku, reason }) => `${String(sku)} in quarantine: ${String(reason)}`).join('; '),
      ok: quarantine.length === 1,
    },
    {
      job: 'sync-inventory',
      what: 'their stock',
      result: `${row?.stock} pieces`,
      ok: done.inventory && row?.stock === 89,
    },
    {
      job: 'sync-prices',
      what: 'their prices',
      result: `${row?.prices} in all`,
      ok: done.prices && row?.prices === '766.80',
    },
    {
      job: 'announce-products',
      what: 'a chair gets cheaper at the ERP',
      result: told ? `product.updated: ${told.changed.join(', ')} of ${told.sku}` : 'not told within 30 s',
      ok: repriced && told?.sku === 'WARE-2' && told.changed.join() === 'price' && receiver.received.length === 1,
    },
  ]
  return { rows, close: async () => void (await Promise.all([erp.close(), receiver.close()])) }
}
