import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import pg from 'pg'
import { withMaintenanceConnection } from '../../src/db/ddl.ts'
import { packageRoot } from '../../src/db/package-root.ts'
import { enablePartitions, finishPartitions } from '../../src/db/partitions/convert.ts'
import { keptOf, publicTable } from '../../src/db/partitions/names.ts'
import { demand, percentile, until, type Facts } from './judge.ts'
import { inWorld, type Scenario, type World } from './world.ts'

const table = 'website_pageviews'
const perSecond = 50

/** Pageviews of one site over the last months. */
async function fill(world: World, rows: number): Promise<number> {
  const site = await world.db.execute(
    sql`INSERT INTO website_sites (name, domain) VALUES ('Shop', 'shop.example') RETURNING id`,
  )
  const siteId = site.rows[0]!.id as number
  for (let done = 0; done < rows; done += 50_000) {
    await world.db.execute(sql`
      INSERT INTO website_pageviews (site_id, page_url, session_id, created_at)
      SELECT ${siteId}, 'https://shop.example/' || g % 1000, 's' || g % 5000,
        (now() AT TIME ZONE 'UTC') - (g % 150) * interval '1 day' - g % 86400 * interval '1 second'
      FROM generate_series(${done + 1}::int, ${Math.min(rows, done + 50_000)}::int) g`)
  }
  return siteId
}

/** A main app without a grant of ours, that inserts, updates and deletes, and keeps books of what must be there. */
async function startMainApp(world: World, siteId: number, rows: number) {
  await world.db.execute(sql`DO $$ BEGIN CREATE ROLE faults_app; EXCEPTION WHEN OTHERS THEN NULL; END $$`)
  await world.db.execute(sql`GRANT SELECT, INSERT, UPDATE, DELETE ON website_pageviews TO faults_app`)
  await world.db.execute(sql`GRANT USAGE ON SEQUENCE website_pageviews_id_seq TO faults_app`)
  const pool = new pg.Pool({ connectionString: world.databaseUrl, max: 20, options: '-c role=faults_app' })
  const titles = new Map<number, string>()
  const gone = new Set<number>()
  const took: number[] = []
  let failed: string | undefined
  let n = 0
  const under = new Set<Promise<void>>()
  async function write(n: number) {
    const began = performance.now()
    const title = `write ${n}`
    if (n % 3 === 0) {
      const text = `INSERT INTO website_pageviews (site_id, page_url, page_title) VALUES ($1, '/', $2) RETURNING id`
      titles.set((await pool.query(text, [siteId, title])).rows[0].id, title)
    } else {
      // Each row is written once only: the books needn't know which of two writes came last.
      const id = 1 + ((n * 7_919) % rows)
      const text = n % 3 === 1 ? `UPDATE website_pageviews SET page_title = $2 WHERE id = $1` : undefined
      if (!titles.has(id) && !gone.has(id)) {
        if (text) titles.set(id, title)
        else gone.add(id)
        await (text ? pool.query(text, [id, title]) : pool.query('DELETE FROM website_pageviews WHERE id = $1', [id]))
      }
    }
    took.push(performance.now() - began)
  }
  const timer = setInterval(() => {
    const writing = write(n++).catch((error: Error) => void (failed ??= error.message))
    under.add(writing)
    void writing.finally(() => under.delete(writing))
  }, 1_000 / perSecond)
  world.defer(async () => {
    clearInterval(timer)
    await pool.end()
  })
  return {
    count: () => n,
    async stop() {
      clearInterval(timer)
      await Promise.all(under)
      return { failed, took, titles, gone }
    },
  }
}

/** Converts in a process of its own, and kills it while it copies. */
async function killWhileCopying(world: World): Promise<void> {
  const child = fork(join(packageRoot(), 'dist/test/faults/partition-child.js'), [world.databaseUrl])
  world.defer(async () => void child.kill('SIGKILL'))
  const seen = () =>
    world.db.execute(
      sql`SELECT FROM website_worker.partitioning WHERE copied_through > 0 AND copied_through < 2147483647`,
    )
  await until('it copies', 60_000, async () => (await seen()).rows.length > 0)
  child.kill('SIGKILL')
  await once(child, 'exit')
}

function convert(setting: Parameters<Scenario['run']>[0]): Promise<Facts> {
  const total = setting.small ? 20_000 : 1_000_000
  return inWorld(setting, async (world) => {
    const siteId = await fill(world, total)
    const app = await startMainApp(world, siteId, total)
    await until('the main app writes', 10_000, () => app.count() > 20)
    await killWhileCopying(world)
    const began = performance.now()
    await withMaintenanceConnection(
      world.databaseUrl,
      () => {},
      (db) => enablePartitions(db, table, setting.small ? { batch: 1_000 } : {}),
    )
    const seconds = Math.round((performance.now() - began) / 100) / 10
    const converted = app.count()
    await until('the main app writes on', 10_000, () => app.count() > converted + 25)
    const { failed, took, titles, gone } = await app.stop()
    demand(failed === undefined, `a write failed: ${failed}`)
    const { rows } = await world.db.execute<{ id: number; title: string | null }>(
      sql`SELECT id, page_title AS title FROM website_pageviews WHERE page_title IS NOT NULL OR id = ANY (${sql.param([...gone])}::int[])`,
    )
    const live = new Map(rows.map((row) => [row.id, row.title]))
    const lost = [...titles].filter(([id, title]) => live.get(id) !== title)
    const back = [...gone].filter((id) => live.has(id))
    demand(lost.length === 0, `${lost.length} writes are lost, e.g. of row ${lost[0]?.[0]}`)
    demand(back.length === 0, `${back.length} deleted rows are there again, e.g. ${back[0]}`)
    const { rows: counted } = await world.db.execute(
      sql`SELECT count(*)::int AS rows, count(DISTINCT id)::int AS ids FROM website_pageviews`,
    )
    const inserted = [...titles.keys()].filter((id) => id > total).length
    const wanted = total + inserted - gone.size
    demand(counted[0]!.rows === wanted && counted[0]!.ids === wanted, `${counted[0]!.rows} rows, not ${wanted}`)
    // Compares both forms, row by row, before it drops one.
    const kept = await world.db.execute(sql`SELECT to_regclass(${keptOf(table)}) IS NOT NULL AS there`)
    demand(kept.rows[0]!.there === true, 'the plain table was not kept')
    await withMaintenanceConnection(
      world.databaseUrl,
      () => {},
      (db) => finishPartitions(db, table),
    )
    const form = await world.db.execute(
      sql`SELECT count(*)::int AS partitions FROM pg_inherits WHERE inhparent = ${publicTable(table)}::regclass`,
    )
    return {
      rows: total,
      seconds,
      writes: took.length,
      failedWrites: 0,
      partitions: form.rows[0]!.partitions as number,
      writeP50Ms: percentile(took, 0.5),
      slowestWriteMs: Math.round(Math.max(...took)),
    }
  })
}

export const partition: Scenario = {
  name: 'partition',
  title: '1,000,000 rows become partitions under 50 writes a second and a kill -9: no failed write, no lost row',
  run: convert,
}
