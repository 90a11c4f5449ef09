import { sql } from 'drizzle-orm'
import { Queue } from 'bullmq'
import type { Receiver } from '../fixtures/receiver.ts'
import { demand, until, type Facts } from './judge.ts'
import { allDelivered, distinctIds, openShop, readLedger, sendEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting, type World } from './world.ts'

const day = 24
const widestWindow = 512

type Death = 'refuses' | 'hangs'

/** As if an hour had passed: whatever is due at some time is due an hour sooner, also what the queue holds until then. */
async function passAnHour(world: World, queue: Queue): Promise<void> {
  await world.db.execute(
    sql`UPDATE website_worker.work SET next_at = next_at - interval '1 hour' WHERE state = 'owed' AND next_at > now()`,
  )
  await world.db.execute(
    sql`UPDATE website_worker.lanes SET open_until = open_until - interval '1 hour',
          paced_until = paced_until - interval '1 hour', changed_at = changed_at - interval '1 hour'`,
  )
  await queue.promoteJobs()
}

/** Rings that wait or are under way in Redis. */
async function ringsIn(queue: Queue): Promise<number> {
  const counts = await queue.getJobCounts('waiting', 'prioritized', 'delayed', 'active')
  return Object.values(counts).reduce((sum, count) => sum + count, 0)
}

/** How often the breaker opened in a row. */
async function opens(world: World): Promise<number> {
  const { rows } = await world.db.execute(sql`SELECT coalesce(max(opens), 0)::int AS opens FROM website_worker.lanes`)
  return rows[0]?.opens as number
}

async function attempts(world: World): Promise<{ sum: number; most: number; dueSoon: number }> {
  // The whole table.
  const { rows } = await world.db.execute(sql`
    SELECT coalesce(sum(attempts), 0)::int AS sum, coalesce(max(attempts), 0)::int AS most,
      count(*) FILTER (WHERE state = 'owed' AND next_at <= now() + interval '10 minutes')::int AS "dueSoon"
    FROM website_worker.work WHERE job = 'deliver-webhook'`)
  return rows[0] as { sum: number; most: number; dueSoon: number }
}

/** Nothing is in the queue, nor due soon. */
async function isQuiet(world: World): Promise<boolean> {
  // work_owed_rung, work_owed_unrung, work_parked.
  const { rows } = await world.db.execute(sql`
    SELECT NOT EXISTS (SELECT FROM website_worker.work WHERE state = 'owed' AND rung_at IS NOT NULL AND next_at <= now())
      AND NOT EXISTS (SELECT FROM website_worker.work WHERE job = 'deliver-webhook' AND state = 'owed' AND rung_at IS NULL
                        AND lane IS NULL AND next_at <= now() + interval '10 minutes')
      AND NOT EXISTS (SELECT FROM website_worker.work WHERE state = 'owed' AND rung_at IS NULL AND lane IS NOT NULL
                        AND lane = (SELECT min(lane) FROM website_worker.lanes) AND next_at <= now()) AS quiet`)
  return rows[0]?.quiet === true
}

function dead(setting: Setting, death: Death): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const [deliveries, hours] = setting.small ? [2_000, 6] : [50_000, day]
    const redis = await world.redis()
    const queue = new Queue('deliver-webhook', { connection: { url: redis.url }, prefix: '{website-worker}' })
    world.defer(() => queue.close())
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
    await until('the breaker opens', 60_000, async () => (await opens(world)) > 0)
    await until(
      'all that was rung at first is back in Postgres',
      60_000,
      async () => (await ringsIn(queue)) <= widestWindow,
      () => ringsIn(queue),
    )
    const atFirst = await attempts(world)
    let mostInRedis = 0
    for (let hour = 0; hour < hours; hour++) {
      const before = await opens(world)
      await passAnHour(world, queue)
      await until(`hour ${hour}: a probe fails`, 20_000, async () => {
        mostInRedis = Math.max(mostInRedis, await ringsIn(queue))
        return (await opens(world)) > before
      })
    }
    const atLast = await attempts(world)
    demand(mostInRedis <= widestWindow, `${mostInRedis} rings in Redis, at most ${widestWindow} are fair`)
    demand(mostInRedis <= atLast.dueSoon, `${mostInRedis} rings in Redis, ${atLast.dueSoon} are due within ten minutes`)
    const probes = atLast.sum - atFirst.sum
    demand(probes <= hours * 3, `${probes} attempts in ${hours} hours of an open breaker`)

    if (receiver) receiver.answer(() => ({ status: 204 }))
    else receiver = await world.receiver(() => ({ status: 204 }), closed.port)
    const began = performance.now()
    // What has failed waits for its next attempt, up to a day by its schedule.
    for (let hour = 0; hour < 30 && (await readLedger(world)).unfinished > 0; hour++) {
      await passAnHour(world, queue)
      await until(
        'what is due is delivered',
        240_000,
        () => isQuiet(world),
        () => attempts(world),
      )
    }
    await allDelivered(world, deliveries, 60_000)
    const arrived = distinctIds(receiver)
    demand(death === 'hangs' || arrived === deliveries, `${arrived} distinct ids`)
    return {
      deliveries,
      attemptsUntilOpen: atFirst.sum,
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
