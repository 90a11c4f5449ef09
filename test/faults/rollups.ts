import { isDeepStrictEqual } from 'node:util'
import { sql } from 'drizzle-orm'
import { createSite } from '../db/main-app.ts'
import { readRollups, recount, type Tables } from '../db/rollups/recount.ts'
import { writeAnalytics } from '../fixtures/analytics-writers.ts'
import { until } from './judge.ts'
import { inWorld, type Scenario, type World } from './world.ts'

const writers = 8

const count = async ({ db }: World, statement: ReturnType<typeof sql>) =>
  (await db.execute(statement)).rows[0]!.n as number
const running = sql`SELECT count(*)::int AS n FROM website_worker.work WHERE job = 'roll-up-analytics' AND state = 'running'`
const left = sql`SELECT (SELECT count(*) FROM website_worker.analytics_dirty)::int + (SELECT count(*) FROM website_worker.work
  WHERE job = 'roll-up-analytics' AND state IN ('owed', 'running'))::int AS n`

/** Which tables differ from a recount, and in how many rows. */
function differences(found: Tables, wanted: Tables): string {
  return Object.keys(wanted)
    .filter((table) => !isDeepStrictEqual(found[table], wanted[table]))
    .map(
      (table) =>
        `${table}: ${found[table]?.filter((row) => !wanted[table]?.includes(row)).length} of ${wanted[table]?.length}`,
    )
    .join(', ')
}

export const rollups: Scenario = {
  name: 'rollups',
  title: 'eight writers, two workers, kill -9 in the middle of a roll-up: every bucket equals a recount',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const env = { REDIS_URL: (await world.redis()).url }
      const siteIds = [
        await createSite(world.db, { timezone: 'Asia/Kolkata' }),
        await createSite(world.db, { timezone: 'America/New_York' }),
      ]
      const victim = await world.start('worker', env)
      await world.start('worker', env)
      const transactions = setting.small ? 800 : 4_000
      let written = 0
      let killed = 0
      const writing = writeAnalytics({
        url: world.databaseUrl,
        siteIds,
        writers,
        goesOn(ended) {
          written = ended
          return ended < transactions || killed === 0
        },
      })
      const killing = (async () => {
        await until('a roll-up under way', 30_000, async () => written > 100 && (await count(world, running)) > 0)
        await victim.kill()
        killed++
        await world.start('worker', env)
      })()
      await Promise.all([writing, killing])
      const caughtUpMs = await until('nothing left', 60_000, async () => (await count(world, left)) === 0)
      // Visitors of periods are computed when someone asks, or a few minutes later.
      for (const siteId of siteIds)
        await world.db.execute(
          sql`SELECT website_worker.enqueue('roll-up-analytics', ${JSON.stringify({ siteId })}::jsonb)`,
        )
      let found = ''
      await until(
        'every bucket equal to a recount',
        60_000,
        async () => (found = differences(await readRollups(world.db), await recount(world.db))) === '',
        () => found,
      )
      const views = await count(world, sql`SELECT count(*)::int AS n FROM website_pageviews`)
      return { transactions: written, pageviews: views, kills: killed, caughtUpMs }
    }),
}
