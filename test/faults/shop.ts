import { sql } from 'drizzle-orm'
import { websiteWebhooks } from '../../src/db/schema/integrations.ts'
import { websiteSites } from '../../src/db/schema/sites.ts'
import type { Receiver } from '../fixtures/receiver.ts'
import { demand, until } from './judge.ts'
import type { Product } from './product.ts'
import { apiKey, type World } from './world.ts'

/** Waits before each attempt for scenarios in which receivers are down for a while. */
export const patientSchedule = ['0s', '1s', '1s', ...Array.from({ length: 40 }, () => '2s')].join(',')

/** A site with one webhook for `order.created`. */
export async function openShop(world: World, targetUrl: string): Promise<number> {
  const [site] = await world.db
    .insert(websiteSites)
    .values({ name: 'Shop', domain: `${crypto.randomUUID()}.example` })
    .returning({ id: websiteSites.id })
  const siteId = site?.id ?? 0
  await world.db.insert(websiteWebhooks).values({
    siteId,
    name: 'Orders',
    event: 'order.created',
    targetUrl,
    secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  })
  return siteId
}

const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' }

export interface Accepted {
  status: number
  contentType: string
  ms: number
}

/** Sends one event over HTTP. */
export async function sendEvent(product: Product, siteId: number, id: string): Promise<Accepted> {
  const began = performance.now()
  const response = await fetch(`${product.url}/v1/events`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ siteId, event: 'order.created', id, data: { orderNumber: id } }),
  })
  await response.arrayBuffer()
  const contentType = response.headers.get('content-type') ?? ''
  return { status: response.status, contentType, ms: performance.now() - began }
}

/** Sends events `<prefix>1` to `<prefix>n` in one batch; every one must be accepted. */
export function sendEvents(product: Product, siteId: number, prefix: string, n: number): Promise<void> {
  const ids = Array.from({ length: n }, (_, i) => `${prefix}${i + 1}`)
  return postEvents(
    product,
    siteId,
    ids.map((id) => ({ id, data: { orderNumber: id } })),
  )
}

/** Sends `order.created` events in one batch; every one must be accepted. */
export async function postEvents(
  product: Product,
  siteId: number,
  events: readonly { id: string; data: object }[],
): Promise<void> {
  const response = await fetch(`${product.url}/v1/events/batch`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ events: events.map((event) => ({ siteId, event: 'order.created', ...event })) }),
  })
  const { results } = (await response.json()) as { results?: { status: number }[] }
  demand(
    results?.length === events.length && results.every((result) => result.status === 202),
    `batch: ${response.status} ${JSON.stringify(results?.find((result) => result.status !== 202))}`,
  )
}

/** The ledger and the work behind it, in numbers. */
export interface Ledger {
  rows: number
  delivered: number
  attempts: number
  unfinished: number
}

/** Counts the ledger. */
export async function readLedger(world: World): Promise<Ledger> {
  // Whole tables; a scenario's are small.
  const { rows } = await world.db.execute(sql`
    SELECT count(*)::int AS rows, count(delivered_at)::int AS delivered, coalesce(sum(attempts), 0)::int AS attempts,
      (SELECT count(*)::int FROM website_worker.work
       WHERE job = 'deliver-webhook' AND state NOT IN ('done', 'failed', 'cancelled')) AS unfinished
    FROM public.website_webhook_deliveries`)
  return rows[0] as unknown as Ledger
}

/** Waits until the ledger has `n` rows, all delivered, and nothing is owed; ms. */
export async function allDelivered(world: World, n: number, timeoutMs: number): Promise<number> {
  let ledger: Ledger | undefined
  return until(
    `${n} deliveries`,
    timeoutMs,
    async () => {
      ledger = await readLedger(world)
      return ledger.rows === n && ledger.delivered === n && ledger.unfinished === 0
    },
    () => ledger,
  )
}

const idOf = (request: Receiver['requests'][number]) => String(request.headers['webhook-id'])

/** How many different events a receiver got. */
export const distinctIds = (receiver: Receiver) => new Set(receiver.requests.map(idOf)).size

/** How often each event came. */
export function posts(receiver: Receiver): Map<string, number> {
  const times = new Map<string, number>()
  for (const request of receiver.requests) times.set(idOf(request), (times.get(idOf(request)) ?? 0) + 1)
  return times
}

/** How often the queue was found wiped, swapped or restored, and how often it was found well. */
export async function readEpoch(world: World): Promise<{ alarms: number; counter: number }> {
  // One row.
  const { rows } = await world.db.execute(sql`SELECT alarms::int, counter::int FROM website_worker.epoch WHERE id = 1`)
  return rows[0] as { alarms: number; counter: number }
}
