import { randomBytes } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { emitEvent } from '../../src/client/index.ts'
import { demand, percentile, until } from './judge.ts'
import { distinctIds, openShop, posts, readLedger } from './shop.ts'
import { inWorld, type Scenario, type World } from './world.ts'

/** The main app's own pool, under a role that was granted nothing of the worker's. */
async function openMainApp(world: World) {
  const role = `main_app_${randomBytes(4).toString('hex')}`
  const password = randomBytes(12).toString('hex')
  await world.db.execute(sql.raw(`CREATE ROLE ${role} LOGIN PASSWORD '${password}'`))
  await world.db.execute(sql.raw(`CREATE TABLE public.main_app_orders (id text PRIMARY KEY)`))
  await world.db.execute(sql.raw(`GRANT INSERT ON public.main_app_orders TO ${role}`))
  const url = new URL(world.databaseUrl)
  url.username = role
  url.password = password
  const pool = new pg.Pool({ connectionString: url.href, max: 5 })
  world.defer(async () => {
    await pool.end()
    await world.db.execute(sql.raw(`DROP OWNED BY ${role}`))
    await world.db.execute(sql.raw(`DROP ROLE ${role}`))
  })
  return pool
}

class RolledBack extends Error {}

export const sqlEmit: Scenario = {
  name: 'sql-emit',
  title: "emitEvent in the main app's own transaction, no grant and no HTTP: sent about a second after commit",
  run: (setting) =>
    inWorld(setting, async (world) => {
      const count = 30
      const receiver = await world.receiver()
      const siteId = await openShop(world, receiver.url)
      const redis = await world.redis()
      // Not even an API runs.
      await world.start('worker', { REDIS_URL: redis.url })
      const pool = await openMainApp(world)
      const db = drizzle(pool)
      const tables = await pool.query('SELECT count(*) FROM website_worker.work').then(
        () => 'readable',
        () => 'refused',
      )
      demand(tables === 'refused', 'the role may read the tables of the worker')

      const committedAt = new Map<string, number>()
      const order = (id: string, rollBack: boolean) =>
        db.transaction(async (tx) => {
          await tx.execute(sql`INSERT INTO public.main_app_orders (id) VALUES (${id})`)
          await emitEvent(tx, { siteId, event: 'order.created', id, data: { orderNumber: id } })
          if (rollBack) throw new RolledBack()
        })
      for (let n = 1; n <= count; n++) {
        const id = `order_${n}`
        await order(id, false)
        committedAt.set(id, Date.now())
        if (n % 3 === 0) {
          const refused: unknown = await order(`never_${n}`, true).catch((error: unknown) => error)
          demand(refused instanceof RolledBack, String(refused))
        }
        // Spread over the dispatcher's ticks, so that every phase is met.
        await new Promise((resolve) => setTimeout(resolve, 170))
      }
      await until('every committed order', 10_000, () => distinctIds(receiver) >= count)
      const latencies = receiver.requests.map(
        (request) => request.at.getTime() - (committedAt.get(String(request.headers['webhook-id'])) ?? 0),
      )
      const { rows } = await readLedger(world)
      demand(rows === count && posts(receiver).size === count, `${rows} ledger rows, ${posts(receiver).size} ids`)
      const [p50Ms, p95Ms, maxMs] = [percentile(latencies, 0.5), percentile(latencies, 0.95), percentile(latencies, 1)]
      const limitMs = setting.small ? 4_000 : 1_500
      demand(p95Ms <= limitMs, `p95 ${p95Ms} ms`)
      return { p50Ms, p95Ms, maxMs, rolledBackSent: 0 }
    }),
}
