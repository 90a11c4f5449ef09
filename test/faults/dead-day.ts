import { sql } from 'drizzle-orm'
import { Redis } from 'ioredis'
import type { Receiver } from '../fixtures/receiver.ts'
import { demand, until, type Facts } from './judge.ts'
import { allDelivered, distinctIds, openShop, sendEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting, type World } from './world.ts'

const hours = 24
const widestWindow = 512

type Death = 'refuses' | 'hangs'

/** As if an hour had passed: whatever is due at some time is due an hour sooner. */
async function passAnHour(world: World): Promise<void> {
  await world.db.execute(
    sql`UPDATE website_worker.work SET next_at = next_at - interval '1 hour' WHERE state = 'owed' AND rung_at IS NULL`,
  )
  await world.db.execute(
    sql`UPDATE website_worker.lanes SET open_until = open_until - interval '1 hour',
          paced_until = paced_until - interval '1 hour', changed_at = changed_at - interval '1 hour'`,
  )
}

/** Rings that wait or are under way in Redis. */
async function ringsIn(client: Redis): Promise<number> {
  const key = (name: string) => `{website-worker}:deliver-webhook:${name}`
  const counts = await Promise.all([client.llen(key('wait')), client.zcard(key('delayed')), client.llen(key('active'))])
  return counts.reduce((sum, count) => sum + count, 0)
}

/** What is due within ten minutes, and attempts so far. */
async function owed(world: World): Promise<{ dueSoon: number; attempts: number; most: number; opens: number }> {
  const { rows } = await world.db.execute(sql`
    SELECT count(*) FILTER (WHERE state = 'owed' AND next_at <= now() + interval '10 minutes')::int AS "dueSoon",
      coalesce(sum(attempts), 0)::int AS attempts, coalesce(max(attempts), 0)::int AS most,
      coalesce((SELECT max(opens) FROM website_worker.lanes), 0)::int AS opens
    FROM website_worker.work WHERE job = 'deliver-webhook'`)
  return rows[0] as { dueSoon: number; attempts: number; most: number; opens: number }
}

function dead(setting: Setting, death: Death): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const deliveries = setting.small ? 2_000 : 50_000
    const redis = await world.redis()
    const client = new Redis(redis.url)
    world.defer(async () => void client.disconnect())
    let receiver: Receiver | undefined
    // A port that refuses until someone listens there again.
    const closed = await world.receiver(() => 'hang')
    if (death === 'refuses') await closed.close()
    else receiver = closed
    const siteId = await openShop(world, closed.url)
    const product = await world.start('start', {
      REDIS_URL: redis.url,
      WEBHOOK_TIMEOUT_MS: '500',
    })
    for (let sent = 0; sent < deliveries; sent += 500) await sendEvents(product, siteId, `dead_${sent}_`, 500)
    await until('the breaker opens', 60_000, async () => (await owed(world)).opens > 0)
    await until(
      'all that was rung at first is back in Postgres',
      60_000,
      async () => (await ringsIn(client)) <= widestWindow,
      () => ringsIn(client),
    )
    const atFirst = await owed(world)
    let mostInRedis = 0
    for (let hour = 0; hour < hours; hour++) {
      const { opens, attempts } = await owed(world)
      await passAnHour(world)
      await until(
        `hour ${hour}: a probe fails`,
        20_000,
        async () => {
          mostInRedis = Math.max(mostInRedis, await ringsIn(client))
          const now = await owed(world)
          return now.opens > opens && now.attempts > attempts
        },
        () => owed(world),
      )
    }
    const atLast = await owed(world)
    demand(mostInRedis <= widestWindow, `${mostInRedis} rings in Redis, at most ${widestWindow} are fair`)
    demand(mostInRedis <= atLast.dueSoon, `${mostInRedis} rings in Redis, ${atLast.dueSoon} are due within ten minutes`)
    const probes = atLast.attempts - atFirst.attempts
    demand(probes <= hours * 3, `${probes} attempts in ${hours} hours of an open breaker`)

    if (receiver) receiver.answer(() => ({ status: 204 }))
    else receiver = await world.receiver(() => ({ status: 204 }), closed.port)
    const began = performance.now()
    // What has failed waits for its next attempt, up to a day by its schedule.
    for (let hour = 0; hour < 30 && distinctIds(receiver) < deliveries; hour++) {
      await passAnHour(world)
      await until(
        'what is due is delivered',
        300_000,
        async () => (await owed(world)).dueSoon === 0,
        () => owed(world),
      )
    }
    await allDelivered(world, deliveries, 60_000)
    const arrived = distinctIds(receiver)
    demand(death === 'hangs' || arrived === deliveries, `${arrived} distinct ids`)
    return {
      deliveries,
      attemptsUntilOpen: atFirst.attempts,
      attemptsInADay: probes,
      mostAttemptsOfOne: atLast.most,
      mostInRedis,
      backMs: Math.round(performance.now() - began),
    }
  })
}

export const deadDay: Scenario = {
  name: 'dead-day',
  title: 'an endpoint with thousands of deliveries is dead for a day: Redis stays small, attempts are not burnt',
  async run(setting) {
    const facts: Facts = {}
    for (const death of ['refuses', 'hangs'] as const) {
      for (const [name, value] of Object.entries(await dead(setting, death))) facts[`${death}.${name}`] = value
    }
    return facts
  },
}
