import { sql } from 'drizzle-orm'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { maintainProcessor, type MaintainDeps } from '../../src/processors/maintain.ts'
import { enablePartitions } from '../../src/db/partitions/convert.ts'
import { type ArchiveWorld, createArchiveWorld, past } from '../db/archive/archive-fixtures.ts'
import { maintaining } from '../db/partitions/conversion.ts'

let world: ArchiveWorld
beforeEach(async () => {
  world = await createArchiveWorld(20)
})
afterEach(() => world.close())

async function maintain(deps: Partial<MaintainDeps> = {}) {
  const logged: Record<string, unknown>[] = []
  const log = pino({ base: null, timestamp: false }, { write: (line) => void logged.push(JSON.parse(line)) })
  const context = { workId: 1, attempt: 1, trigger: 'schedule', lane: null, loaded: undefined, progress: () => {} }
  const { signal } = world.options
  const run = maintainProcessor.process(
    {},
    { db: world.database.db, payloadsDays: 30, ...deps },
    { ...context, log, signal },
  )
  return { run, logged }
}
const outcomeOf = async (deps: Partial<MaintainDeps> = {}) => (await maintain(deps)).run
const archive = () => ({ dir: world.dir, afterMonths: 3 })

test('archives nothing until it is told to, and then what is old enough', async () => {
  expect(await outcomeOf()).toMatchObject({ kind: 'done', result: { carts: 0, syncLogs: 0 } })
  expect(await world.query('SELECT FROM website_pageviews')).toHaveLength(25)
  expect(await outcomeOf({ archive: archive() })).toMatchObject({ result: { archived: 20, archiveRefused: [] } })
  expect(await world.query('SELECT FROM website_pageviews')).toHaveLength(5)
})

test('one step that fails fails the run, once the others are done', async () => {
  await world.query(
    `INSERT INTO website_worker.crm_leads (submission_id, integration_id, reference) VALUES (9, 1, 'r')`,
  )
  const { run, logged } = await maintain({ archive: { dir: '/dev/null/nowhere', afterMonths: 3 } })
  await expect(run).rejects.toThrow('ENOTDIR')
  expect(logged).toContainEqual(expect.objectContaining({ level: 50, step: 'archive' }))
  expect(await world.query('SELECT FROM website_worker.crm_leads')).toEqual([])
  expect(await world.query('SELECT FROM website_pageviews')).toHaveLength(25)
})

test('says why a month was not archived', async () => {
  await world.query(`UPDATE website_pageviews SET page_title = 'x' WHERE id = 1`)
  const { run, logged } = await maintain({ archive: archive() })
  const reason = expect.stringContaining('yet to be rolled up')
  expect(await run).toMatchObject({
    result: { archived: 0, archiveRefused: [{ table: 'website_pageviews', month: past.month, reason }] },
  })
  expect(logged).toContainEqual(expect.objectContaining({ level: 40, month: past.month, reason }))
})

test('keeps partitions ahead, and gives rows of the default partition one of their own', async () => {
  await maintaining(world.database, (db) => enablePartitions(db, 'website_pageviews'))
  await world.database.db.execute(sql`
    INSERT INTO website_pageviews (site_id, page_url, created_at) VALUES (${world.siteId}, '/', '2024-06-15'), (${world.siteId}, '/', '9999-01-01')`)
  await world.query(`DO $$ BEGIN EXECUTE (SELECT format('DROP TABLE website_partitions.website_pageviews_%s',
    to_char((now() AT TIME ZONE 'UTC') + interval '3 months', 'YYYY_MM'))); END $$`)
  const { run, logged } = await maintain()
  expect(await run).toMatchObject({ kind: 'done', result: { partitions: 2 } })
  expect(logged).toContainEqual(expect.objectContaining({ msg: 'the default partition holds rows', defaultRows: 1 }))
  expect(await world.query('SELECT created_at::text FROM website_partitions.website_pageviews_2024_06')).toEqual([
    { created_at: '2024-06-15 00:00:00' },
  ])
  expect(await outcomeOf()).toMatchObject({ result: { partitions: 0 } })
})

test('lists certificates and promotions that end soon, and changes none', async () => {
  await world.query(`
    INSERT INTO website_domains (site_id, domain, ssl_enabled, ssl_expires_at)
    SELECT ${world.siteId}, name, enabled, (now() AT TIME ZONE 'UTC') + days * interval '1 day'
    FROM (VALUES ('soon.example', true, 13), ('over.example', true, -2), ('off.example', false, 1), ('late.example', true, 15))
      AS d (name, enabled, days)`)
  await world.query(`
    INSERT INTO website_promotions (code, name, discount_type, discount_value, valid_from, valid_until, is_active)
    SELECT code, 'P', 'fixed', 1, now() - interval '9 days', (now() AT TIME ZONE 'UTC') + hours * interval '1 hour', active
    FROM (VALUES ('SOON', 70, true), ('OVER', -1, true), ('OFF', 1, false), ('LATE', 74, true)) AS p (code, hours, active)`)
  const before = await world.query('SELECT d, p FROM website_domains d, website_promotions p ORDER BY d.id, p.id')
  const { run, logged } = await maintain()
  expect(await run).toMatchObject({
    result: {
      certificates: [{ domain: 'over.example' }, { domain: 'soon.example', siteId: world.siteId }],
      promotions: [{ code: 'SOON' }],
    },
  })
  expect(logged.filter(({ msg }) => msg === 'certificate is about to expire')).toHaveLength(2)
  expect(await world.query('SELECT d, p FROM website_domains d, website_promotions p ORDER BY d.id, p.id')).toEqual(
    before,
  )
})

test('lets the planner know of a table that was written in bulk', async () => {
  await world.query(`ALTER TABLE website_events SET (autovacuum_enabled = false)`)
  await world.query(
    `INSERT INTO website_events (event_type, event_name) SELECT 'c', 'e' FROM generate_series(1, 12000)`,
  )
  await world.query('SELECT pg_stat_force_next_flush()')
  await expect
    .poll(async () => (await outcomeOf()) as unknown)
    .toMatchObject({ result: { analyzed: expect.arrayContaining(['public.website_events']) } })
})
