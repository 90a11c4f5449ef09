import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { createDatabase } from '../../../src/db/client.ts'
import { writeAnalytics } from '../../fixtures/analytics-writers.ts'
import { createTestDatabase } from '../../fixtures/database.ts'
import { createSite } from '../main-app.ts'
import { readRollups, recount } from './recount.ts'
import { one, rollUp } from './rollup-fixtures.ts'

test('loses nothing to writers that commit late, or not at all, nor to connections that are cut', async () => {
  const database = await createTestDatabase()
  const { db, url } = database
  const rollers = createDatabase({ url, applicationName: 'roller' })
  try {
    const siteIds = [
      await createSite(db, { timezone: 'Asia/Kolkata' }),
      await createSite(db, { timezone: 'America/New_York' }),
    ]
    const written = new AbortController()
    let cut = 0
    let rolled = 0
    const roll = async () => {
      for (let n = 0; !written.signal.aborted; n++) {
        await rollUp(rollers.db, { siteId: siteIds[n % 2]! }, { visitorsMs: 0 }).then(
          () => void rolled++,
          () => {},
        )
      }
    }
    const rolling = [roll(), roll()]
    let cutting: Promise<unknown> = Promise.resolve()
    let rolledBefore = 0
    const cutOne = async () => {
      cut += await one<number>(
        db,
        sql`SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'roller' AND state <> 'idle'`,
      )
    }
    const writing = writeAnalytics({
      url,
      siteIds,
      writers: 8,
      goesOn(ended) {
        if (rolled >= rolledBefore + 2) {
          rolledBefore = rolled
          cutting = cutting.then(cutOne)
        }
        return ended < 160 || cut < 3 || rolled < 6
      },
    })
    await writing.finally(() => written.abort())
    await Promise.all([cutting, ...rolling])
    for (const siteId of siteIds) expect(await rollUp(db, { siteId })).toMatchObject({ kind: 'done' })
    expect(await readRollups(db)).toEqual(await recount(db))
    expect(await one(db, sql`SELECT count(*)::int FROM website_worker.analytics_dirty`)).toBe(0)
  } finally {
    await rollers.close()
    await database.drop()
  }
}, 60_000)
