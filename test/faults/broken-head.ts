import { sql, type SQL } from 'drizzle-orm'
import { demand, type Facts, until } from './judge.ts'
import { openShop, posts, sendEvent } from './shop.ts'
import { inWorld, type Scenario, type Setting, type World } from './world.ts'

const broken = 10_000
const mostDelayMs = 3_000

const payloads = {
  garbage: sql`CASE n % 4 WHEN 0 THEN '{}' WHEN 1 THEN '"text"' WHEN 2 THEN '{"deliveryId": "x"}' ELSE 'null' END::jsonb`,
  ghosts: sql`jsonb_build_object('deliveryId', 1000000000 + n)`,
}

/** Owes items that can't work, all due an hour before anything else. */
async function oweBroken(world: World, payload: SQL) {
  await world.db.execute(sql`
    INSERT INTO website_worker.work (job, key, payload, next_at)
    SELECT 'deliver-webhook', 'broken-' || n, ${payload}, now() - interval '1 hour' FROM generate_series(1, ${broken}) n`)
}

function delayBehind(setting: Setting, kind: keyof typeof payloads, backend: 'redis' | 'postgres'): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const receiver = await world.receiver()
    const siteId = await openShop(world, receiver.url)
    const env: Record<string, string> = backend === 'redis' ? { REDIS_URL: (await world.redis()).url } : {}
    const product = await world.start('start', env)
    await sendEvent(product, siteId, 'warm')
    await receiver.waitFor(1)
    await oweBroken(world, payloads[kind])
    const arrived = (id: string) => async () => posts(receiver).has(id)
    const [httpMs, sqlMs] = await Promise.all([
      sendEvent(product, siteId, 'http').then(() => until('the event sent over HTTP', 60_000, arrived('http'))),
      world.db
        .execute(sql`SELECT website_worker.emit_event(${siteId}, 'order.created', '{}', 'sql')`)
        .then(() => until('the event emitted in SQL', 60_000, arrived('sql'))),
    ])
    const left = async () => {
      const { rows } = await world.db.execute(
        sql`SELECT count(*)::int AS n FROM website_worker.work WHERE key LIKE 'broken-%' AND state NOT IN ('failed', 'cancelled')`,
      )
      return rows[0]?.n === 0
    }
    const allEndedMs = await until('the broken items end', 120_000, left)
    const slowest = Math.max(httpMs, sqlMs)
    demand(
      slowest <= mostDelayMs * (setting.small ? 2 : 1),
      `${kind} on ${backend}: healthy events took ${httpMs} ms (HTTP) and ${sqlMs} ms (SQL)`,
    )
    return { httpMs, sqlMs, allEndedMs }
  })
}

export const brokenHead: Scenario = {
  name: 'broken-head',
  title: '10,000 broken items at the head of the owed list hold up a healthy one by a tick or two at most',
  async run(setting) {
    const facts: Facts = {}
    const variants = (['redis', 'postgres'] as const).flatMap((backend) =>
      (['garbage', 'ghosts'] as const).map((kind) => ({ backend, kind })),
    )
    for (const { backend, kind } of setting.small ? variants.slice(1, 2) : variants) {
      for (const [name, value] of Object.entries(await delayBehind(setting, kind, backend)))
        facts[`${backend}.${kind}.${name}`] = value
    }
    return facts
  },
}
