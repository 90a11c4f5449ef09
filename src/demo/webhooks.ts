import { randomBytes } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { createClient, emitEvent } from '../client/index.ts'
import type { Db } from '../db/client.ts'
import { websiteSites } from '../db/schema/sites.ts'
import { websiteWebhooks } from '../db/schema/integrations.ts'
import { startReceiver } from './receiver.ts'

/** One line of the demo's table. */
export interface DemoRow {
  job: string
  what: string
  result: string
  ok: boolean
}

export interface DemoContext {
  db: Db
  apiUrl: string
  apiKey: string
  /** Tries until `check` returns something, at most half a minute. */
  until<T>(check: () => Promise<T | undefined>): Promise<T | undefined>
}

const newSecret = () => `whsec_${randomBytes(24).toString('base64')}`

/** Three receivers (well, shaky, gone), events by HTTP and by SQL, and what came of each delivery. */
export async function demoWebhooks({
  db,
  apiUrl,
  apiKey,
  until,
}: DemoContext): Promise<{ rows: DemoRow[]; close(): Promise<void> }> {
  const secrets = { well: newSecret(), shaky: newSecret(), gone: newSecret() }
  const well = await startReceiver(secrets.well, () => 200)
  const shaky = await startReceiver(secrets.shaky, (request) => (request === 1 ? 503 : 200))
  const gone = await startReceiver(secrets.gone, () => 410)

  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'Demo shop', domain: `demo-${Date.now()}.example` })
    .returning({ id: websiteSites.id })
  const siteId = site?.id ?? 0
  const hooks = await db
    .insert(websiteWebhooks)
    .values([
      { siteId, name: 'warehouse', event: 'order.created', targetUrl: well.url, secret: secrets.well },
      { siteId, name: 'bookkeeping', event: 'order.created', targetUrl: shaky.url, secret: secrets.shaky },
      { siteId, name: 'old newsletter tool', event: 'customer.created', targetUrl: gone.url, secret: secrets.gone },
    ])
    .returning({ id: websiteWebhooks.id, name: websiteWebhooks.name })

  const client = createClient({ url: apiUrl, apiKey })
  await client.emitEvent({
    siteId,
    event: 'order.created',
    id: `order_${siteId}_1`,
    data: { orderNumber: 'WEB-1001', total: '49.90' },
  })
  await client.emitEvent({
    siteId,
    event: 'order.created',
    id: `order_${siteId}_1`,
    data: { orderNumber: 'WEB-1001', total: '49.90' },
  })
  await client.emitEvent({ siteId, event: 'customer.created', data: { email: 'jane@shop.example' } })
  // The main app's own transaction: the event exists if, and only if, the order does.
  await db.transaction((tx) =>
    emitEvent(tx, { siteId, event: 'order.created', data: { orderNumber: 'WEB-1002', total: '5.00' } }),
  )
  await db
    .transaction(async (tx) => {
      await emitEvent(tx, { siteId, event: 'order.created', data: { orderNumber: 'WEB-1003', total: '7.00' } })
      tx.rollback()
    })
    .catch(() => {})

  const statement = sql`
    SELECT d.id, d.webhook_id, d.attempts, d.status_code, d.delivered_at IS NOT NULL AS delivered, w.state, e.event
    FROM website_webhook_deliveries d
    JOIN website_worker.events e ON e.site_id = ${siteId} AND e.id = d.event_id
    JOIN website_worker.work w ON w.job = 'deliver-webhook' AND w.key = d.id::text
    WHERE d.webhook_id = ANY (${sql.param(hooks.map((hook) => hook.id))}) ORDER BY d.id`
  const deliveries = await until(async () => {
    const { rows } = await db.execute(statement)
    return rows.length === 5 && rows.every((row) => row.state === 'done' || row.state === 'failed') ? rows : undefined
  })

  const rows = (deliveries ?? []).map((row): DemoRow => {
    const hook = hooks.find(({ id }) => id === row.webhook_id)?.name ?? ''
    const isGone = hook === 'old newsletter tool'
    const tries = `${row.attempts} ${row.attempts === 1 ? 'attempt' : 'attempts'}`
    return {
      job: 'deliver-webhook',
      what: `${row.event} → ${hook}`,
      result: row.delivered
        ? `delivered, ${tries}`
        : `${row.status_code} Gone after ${tries}: the webhook is switched off`,
      ok: isGone ? row.delivered === false && row.status_code === 410 : row.delivered === true,
    }
  })
  const all = [...well.received, ...shaky.received, ...gone.received]
  const distinct = new Set(well.received.map((request) => request.eventId)).size
  rows.push(
    {
      job: '',
      what: 'signatures checked by the receivers',
      result: `${all.filter((r) => r.valid).length} of ${all.length} right`,
      ok: all.every((r) => r.valid),
    },
    {
      job: '',
      what: 'same event sent twice, one rolled back',
      result: `${distinct} events at the warehouse, each once`,
      ok: distinct === 2 && well.received.length === 2,
    },
  )
  return {
    rows: deliveries
      ? rows
      : [{ job: 'deliver-webhook', what: 'five deliveries', result: 'not done within 30 s', ok: false }],
    close: async () => void (await Promise.all([well.close(), shaky.close(), gone.close()])),
  }
}

/** Housekeeping of the worker's own tables, asked for over HTTP. */
export async function demoMaintenance({ apiUrl, apiKey, until }: DemoContext): Promise<DemoRow[]> {
  const client = createClient({ url: apiUrl, apiKey })
  const { jobId } = await client.enqueue('maintain', {})
  const job = await until(async () => {
    const view = await client.getJob('maintain', jobId)
    return view.state === 'completed' || view.state === 'failed' ? view : undefined
  })
  return [
    {
      job: 'maintain',
      what: "prune the worker's own tables",
      result: job?.state ?? 'not done within 30 s',
      ok: job?.state === 'completed',
    },
  ]
}
