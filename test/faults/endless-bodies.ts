import { sql } from 'drizzle-orm'
import type { ServerResponse } from 'node:http'
import { websiteWebhooks } from '../../src/db/schema/integrations.ts'
import { startCountingReceiver } from './counting-receiver.ts'
import { demand, until, type Facts } from './judge.ts'
import { watchMemory } from './rss.ts'
import { openShop, postEvents, readLedger } from './shop.ts'
import { inWorld, type Scenario, type Setting, type World } from './world.ts'

/** Each to an origin of its own, half of them pouring, half trickling. */
const connections = 100
const healthy = 20
const mostDriftMb = 50
const chunk = Buffer.alloc(16_384, 'x')

/** Refuses, and then says as much as the connection takes for as long as it lives. */
function pour(response: ServerResponse): void {
  response.writeHead(500)
  const more = () => {
    while (!response.destroyed && response.write(chunk));
  }
  response.on('drain', more)
  more()
}

/** Accepts, and then says a byte now and then, so that no pause is ever long; ends when the connection is cut. */
function trickle(response: ServerResponse): void {
  response.writeHead(200).write('x')
  const timer = setInterval(() => response.write('x'), 100)
  response.once('close', () => clearInterval(timer))
}

async function openEndlessShop(world: World, trickling: Set<ServerResponse>) {
  const receivers = await Promise.all(
    Array.from({ length: connections }, (_, n) =>
      startCountingReceiver((response) => {
        if (n % 2 === 0) return pour(response)
        trickling.add(response.once('close', () => trickling.delete(response)))
        trickle(response)
      }),
    ),
  )
  for (const receiver of receivers) world.defer(receiver.close)
  const [first, ...others] = receivers.map((receiver) => receiver.url)
  const siteId = await openShop(world, first ?? '')
  const webhook = {
    siteId,
    name: 'Orders',
    event: 'order.created' as const,
    secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  }
  await world.db.insert(websiteWebhooks).values(others.map((targetUrl) => ({ ...webhook, targetUrl })))
  return { siteId, requests: () => receivers.reduce((sum, receiver) => sum + receiver.count, 0) }
}

async function delivered(world: World, siteId: number): Promise<number> {
  // Whole tables; a scenario's are small.
  const { rows } = await world.db.execute(sql`
    SELECT count(*)::int AS n FROM public.website_webhook_deliveries d
    JOIN public.website_webhooks w ON w.id = d.webhook_id WHERE w.site_id = ${siteId} AND d.delivered_at IS NOT NULL`)
  return (rows[0] as { n: number }).n
}

const events = (prefix: string, n: number) =>
  Array.from({ length: n }, (_, i) => ({ id: `${prefix}_${i}`, data: { orderNumber: `${prefix}_${i}` } }))

/** Round after round, a healthy shop gets its events while all the endless answers are under way; only then are they cut. */
function flood(setting: Setting, warmUp: number, measured: number): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const redis = await world.redis()
    const trickling = new Set<ServerResponse>()
    const endless = await openEndlessShop(world, trickling)
    const good = await startCountingReceiver()
    world.defer(good.close)
    const goodSite = await openShop(world, good.url)
    const product = await world.start('start', {
      REDIS_URL: redis.url,
      WEBHOOK_CONCURRENCY: String(connections * 2),
      WEBHOOK_TIMEOUT_MS: '60000',
      WEBHOOK_RETRY_SCHEDULE: '0s',
    })
    const rounds = warmUp + measured
    let round = 0
    const memory = watchMemory(product.pid, () => round)
    world.defer(async () => memory.stop())

    for (; round < rounds; round++) {
      await postEvents(product, endless.siteId, events(`endless_${round}`, 1))
      await until('all trickle', 30_000, () => trickling.size === connections / 2)
      await postEvents(product, goodSite, events(`good_${round}`, healthy))
      const isThrough = async () => (await delivered(world, goodSite)) === (round + 1) * healthy
      await until('the healthy shop gets its events', 30_000, isThrough)
      demand(trickling.size === connections / 2, `only ${trickling.size} connections still trickle`)
      for (const response of trickling) response.destroy()
      await until('every endless answer is given up', 30_000, async () => (await readLedger(world)).unfinished === 0)
    }
    demand(endless.requests() === rounds * connections, `${endless.requests()} requests, not ${rounds * connections}`)
    demand((await delivered(world, endless.siteId)) === 0, 'an answer without an end counted as a delivery')
    const window = Math.max(2, measured / 10)
    const firstMb = memory.medianMb(warmUp, warmUp + window)
    const lastMb = memory.medianMb(rounds - window, rounds)
    demand(lastMb - firstMb <= mostDriftMb, `memory went from ${firstMb} MB to ${lastMb} MB`)
    return { requests: endless.requests(), firstMb, lastMb, peakMb: memory.peakMb() }
  })
}

export const endlessBodies: Scenario = {
  name: 'endless-bodies',
  title: 'answers without an end on 100 connections cost no memory and hold up nobody else',
  run: (setting) => (setting.small ? flood(setting, 2, 4) : flood(setting, 60, 120)),
}
