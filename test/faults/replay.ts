import { sql } from 'drizzle-orm'
import { createClient, type ReplayResult } from '../../src/client/index.ts'
import { demand, percentile, until, type Facts } from './judge.ts'
import { openShop, posts, readLedger } from './shop.ts'
import { apiKey, inWorld, type Scenario, type Setting, type World } from './world.ts'

/** Requests under way at the kill, whose end nobody wrote down. */
const mostExtraPosts = 100

/** Deliveries that failed an hour ago. */
async function fillLedger(world: World, siteId: number, webhookId: number, total: number): Promise<void> {
  await world.db.execute(sql`
    INSERT INTO website_worker.events (site_id, id, event, body, hash, created_at)
    SELECT ${siteId}, 'replay_' || n, 'order.created', '{"n":' || n || '}', 'h', now() - interval '1 hour'
    FROM generate_series(1, ${total}::int) n`)
  await world.db.execute(sql`
    INSERT INTO website_webhook_deliveries (webhook_id, event_id, attempts, status_code, created_at)
    SELECT ${webhookId}, 'replay_' || n, 10, 503, now() AT TIME ZONE 'UTC' - interval '1 hour'
    FROM generate_series(1, ${total}::int) n`)
  await world.db.execute(sql`
    INSERT INTO website_worker.work (job, key, site_id, payload, state, reason, attempts, finished_at)
    SELECT 'deliver-webhook', id::text, ${siteId}, jsonb_build_object('deliveryId', id), 'failed', 'out of attempts', 10, now()
    FROM website_webhook_deliveries`)
  await world.db.execute(sql`ANALYZE website_worker.events, website_webhook_deliveries, website_worker.work`)
}

interface Position {
  position: number
  replayed: number
}

async function readPosition(world: World, workId: string): Promise<Position | undefined> {
  const { rows } = await world.db.execute(
    sql`SELECT position, replayed FROM website_worker.webhook_replays WHERE work_id = ${workId}`,
  )
  return rows[0] as Position | undefined
}

/** Sends an event now and then, and notes how long each took to arrive. */
function sendLiveEvents(client: ReturnType<typeof createClient>, siteId: number) {
  const sentAt = new Map<string, number>()
  const stop = new AbortController()
  const sending = (async () => {
    for (let n = 1; !stop.signal.aborted; n++) {
      const id = `live_${n}`
      sentAt.set(id, Date.now())
      await client.emitEvent({ siteId, event: 'order.created', id, data: { n } }).catch(() => sentAt.delete(id))
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  })()
  return {
    sentAt,
    async end() {
      stop.abort()
      await sending
    },
  }
}

function replayThroughAKill(setting: Setting, total: number): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const arrivedAt = new Map<string, number>()
    const receiver = await world.receiver(({ headers }) => {
      const id = String(headers['webhook-id'])
      if (!arrivedAt.has(id)) arrivedAt.set(id, Date.now())
      return { status: 204 }
    })
    const env = { REDIS_URL: (await world.redis()).url }
    const siteId = await openShop(world, receiver.url)
    const { rows } = await world.db.execute(sql`SELECT id FROM website_webhooks`)
    const webhookId = rows[0]?.id as number
    await fillLedger(world, siteId, webhookId, total)

    const first = await world.start('start', env)
    const began = performance.now()
    const since = new Date(Date.now() - 7_200_000)
    const { jobId } = await createClient({ url: first.url, apiKey }).replayWebhook(webhookId, { since })
    const seen: Position[] = []
    const look = async () => {
      const now = await readPosition(world, jobId)
      if (now) seen.push(now)
      return now
    }
    const third = async () => ((await look())?.replayed ?? 0) >= total / 3
    await until('a third is owed again', 600_000, third, () => seen.at(-1))
    await first.kill()
    const atKill = await look()
    demand(atKill !== undefined && atKill.replayed < total, `it was over before the kill: ${JSON.stringify(atKill)}`)

    const second = await world.start('start', env)
    const client = createClient({ url: second.url, apiKey })
    const live = sendLiveEvents(client, siteId)
    const done = async () => {
      await look()
      const job = await client.getJob('replay-webhook', jobId)
      demand(job.state !== 'failed', `the replay failed: ${job.failedReason}`)
      return job.state === 'completed'
    }
    await until('the replay is done', 900_000, done, () => seen.at(-1))
    await live.end()
    const { result } = await client.getJob('replay-webhook', jobId)
    const all = total + live.sentAt.size
    await until(
      `${all} deliveries`,
      60_000,
      async () => {
        const { delivered, unfinished } = await readLedger(world)
        return delivered === all && unfinished === 0
      },
      () => readLedger(world),
    )
    const seconds = Math.round((performance.now() - began) / 1_000)

    const { replayed, skipped } = result as ReplayResult
    demand(replayed === total && skipped === 0, `replayed ${replayed} of ${total}, skipped ${skipped}`)
    const backwards = seen.findIndex((now, index) => index > 0 && now.position < seen[index - 1]!.position)
    demand(backwards === -1, `it went back from ${seen[backwards - 1]?.position} to ${seen[backwards]?.position}`)
    const times = posts(receiver)
    demand(times.size === all, `${times.size} of ${all} events arrived`)
    const extraPosts = receiver.requests.length - all
    demand(extraPosts <= mostExtraPosts, `${extraPosts} deliveries were sent twice`)
    const waits = [...live.sentAt].map(([id, at]) => arrivedAt.get(id)! - at)
    return {
      deliveries: total,
      atKill: atKill.replayed,
      extraPosts,
      seconds,
      liveEvents: waits.length,
      liveP50Ms: percentile(waits, 0.5),
      liveP95Ms: percentile(waits, 0.95),
    }
  })
}

export const replay: Scenario = {
  name: 'replay',
  title: 'kill -9 in the middle of a replay of 100,000 deliveries: every one delivered, and it goes on where it was',
  run: (setting) => replayThroughAKill(setting, setting.small ? 5_000 : 100_000),
}
