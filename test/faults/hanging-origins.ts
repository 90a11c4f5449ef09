import { sql } from 'drizzle-orm'
import type { Receiver } from '../fixtures/receiver.ts'
import { demand, until, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { allDelivered, distinctIds, openShop, readLedger, sendEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting, type World } from './world.ts'

const hanging = 10
const healthy = 5
const timeoutMs = 3_000
const env = {
  WEBHOOK_TIMEOUT_MS: String(timeoutMs),
  // What failed while an endpoint hung is tried again soon, and never given up.
  WEBHOOK_RETRY_SCHEDULE: ['0s', ...Array.from({ length: 40 }, () => '1s')].join(','),
}

type Trouble = 'none' | 'kill, flush, two workers'

interface Shop {
  siteId: number
  receiver: Receiver
}

async function openShops(world: World, n: number): Promise<Shop[]> {
  const shops: Shop[] = []
  for (let each = 0; each < n; each++) {
    const receiver = await world.receiver()
    shops.push({ siteId: await openShop(world, receiver.url), receiver })
  }
  return shops
}

const received = (shops: readonly Shop[]) => shops.reduce((sum, { receiver }) => sum + distinctIds(receiver), 0)
const posted = (shops: readonly Shop[]) => shops.reduce((sum, { receiver }) => sum + receiver.requests.length, 0)

/** Attempts that were made and not answered, over all deliveries. */
async function attemptsOf(world: World, shops: readonly Shop[]): Promise<{ most: number; parked: number }> {
  // Whole tables; a scenario's are small.
  const { rows } = await world.db.execute(sql`
    SELECT coalesce(max(d.attempts), 0)::int AS most, count(k.lane)::int AS parked
    FROM public.website_webhook_deliveries d JOIN public.website_webhooks w ON w.id = d.webhook_id
    LEFT JOIN website_worker.work k ON k.job = 'deliver-webhook' AND k.key = d.id::text AND k.state = 'owed'
    WHERE w.site_id = ANY (${sql.param(shops.map((shop) => shop.siteId))}::int[])`)
  return rows[0] as { most: number; parked: number }
}

function hang(setting: Setting, trouble: Trouble): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const redis = await world.redis()
    const settings = { ...env, REDIS_URL: redis.url }
    const ill = await openShops(world, hanging)
    const well = await openShops(world, healthy)
    const workers: Product[] = []
    let api: Product
    if (trouble === 'none') api = await world.start('start', settings)
    else {
      api = await world.start('api', settings)
      workers.push(...(await Promise.all([world.start('worker', settings), world.start('worker', settings)])))
    }
    const waiting = setting.small ? 100 : 500
    const each = setting.small ? 100 : 400
    for (const { receiver } of ill) receiver.answer(() => 'hang')
    // One after the other, so that each finds the places free that the ones before it left.
    for (const [n, { siteId }] of ill.entries()) await sendEvents(api, siteId, `ill_${n}_`, waiting)
    for (const [n, { siteId }] of well.entries()) await sendEvents(api, siteId, `well_${n}_`, each)
    if (trouble !== 'none') {
      await until('some healthy deliveries', 30_000, () => received(well) >= each)
      await workers.shift()?.kill()
      await redis.flush()
      workers.push(await world.start('worker', settings))
    }
    const wellMs = await until(
      'the healthy endpoints get all of theirs',
      60_000,
      () => received(well) === healthy * each,
      () => ({ received: received(well), of: healthy * each }),
    )
    const wellExtra = posted(well) - healthy * each
    demand(trouble !== 'none' || wellExtra === 0, `${wellExtra} extra posts to healthy endpoints`)
    const { most, parked } = await attemptsOf(world, ill)
    demand(parked > 0, 'nothing was parked')

    for (const { receiver } of ill) receiver.answer(() => ({ status: 204 }))
    const total = hanging * waiting + healthy * each
    const backMs = await allDelivered(world, total, 90_000)
    const { rows } = await readLedger(world)
    demand(rows === total, `${rows} ledger rows for ${total} deliveries`)
    demand(received(ill) === hanging * waiting, `${received(ill)} distinct ids at the endpoints that hung`)
    return { wellMs, wellExtra, mostAttemptsWhileHanging: most, parkedWhileHanging: parked, backMs }
  })
}

/** What the breaker knows of the only lane. */
async function breaker(world: World): Promise<{ opens: number; isOpen: boolean } | undefined> {
  const { rows } = await world.db.execute(sql`SELECT opens, open_until > now() AS "isOpen" FROM website_worker.lanes`)
  return rows[0] as { opens: number; isOpen: boolean } | undefined
}

/** A breaker that is open stays so over a restart: nothing is sent until its time is over. */
function restart(setting: Setting): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const settings = { ...env, REDIS_URL: (await world.redis()).url }
    const receiver = await world.receiver(() => ({ status: 503 }))
    const siteId = await openShop(world, receiver.url)
    const first = await world.start('start', settings)
    await sendEvents(first, siteId, 'dead_', 400)
    await until('the breaker opens', 30_000, async () => ((await breaker(world))?.opens ?? 0) > 0)
    // As after many probes: open for an hour.
    await world.db.execute(sql`UPDATE website_worker.lanes SET opens = 9, open_until = now() + interval '1 hour'`)
    await until('nothing of it is in the queue', 30_000, async () => {
      const { rows } = await world.db.execute(
        sql`SELECT count(*)::int AS n FROM website_worker.work WHERE state = 'owed' AND (rung_at IS NOT NULL OR lane IS NULL)`,
      )
      return rows[0]?.n === 0
    })
    await first.kill()
    const before = receiver.requests.length
    receiver.answer(() => ({ status: 204 }))
    const second = await world.start('start', settings)
    await sendEvents(second, siteId, 'later_', 50)
    const other = await world.receiver()
    await sendEvents(second, await openShop(world, other.url), 'other_', 50)
    await until('another endpoint gets its own', 30_000, () => distinctIds(other) === 50)
    demand((await breaker(world))?.isOpen === true, 'the breaker closed by itself')
    demand(receiver.requests.length === before, `${receiver.requests.length - before} posts while it was open`)
    await world.db.execute(sql`UPDATE website_worker.lanes SET open_until = now()`)
    const backMs = await allDelivered(world, 500, 60_000)
    return { 'restart.postsBefore': before, 'restart.backMs': backMs }
  })
}

export const hangingOrigins: Scenario = {
  name: 'hanging-origins',
  title:
    'ten endpoints hang with hundreds waiting each: others get theirs once, and all is delivered when they are back',
  async run(setting) {
    const quiet = await hang(setting, 'none')
    const troubled = await hang(setting, 'kill, flush, two workers')
    const renamed = Object.entries(troubled).map(([name, value]) => [`troubled.${name}`, value])
    return { ...quiet, ...Object.fromEntries(renamed), ...(await restart(setting)) }
  },
}
