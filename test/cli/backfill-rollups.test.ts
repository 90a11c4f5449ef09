import { Command } from 'commander'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { addBackfillCommand } from '../../src/cli/backfill.ts'
import { disableDomain } from '../../src/db/domains.ts'
import { domains, work } from '../../src/db/schema/index.ts'
import { rollUpAnalyticsProcessor } from '../../src/processors/roll-up-analytics.ts'
import { rollUpAnalytics } from '../../src/queues/roll-up-analytics.ts'
import { createSite, workOf } from '../db/main-app.ts'
import { one } from '../db/rollups/rollup-fixtures.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { createStack, type Stack } from '../fixtures/stack.ts'

const days = 30

let database: TestDatabase
let stack: Stack
let siteId: number
beforeAll(async () => {
  database = await createTestDatabase()
  stack = await createStack({
    backend: 'postgres',
    // Nobody else takes what is marked.
    jobs: [{ definition: rollUpAnalytics, processor: { ...rollUpAnalyticsProcessor, discover: async () => 0 } }],
    database,
    deps: { rollups: { db: database.db } },
  })
  stack.dispatcher.start()
})
afterAll(() => stack.close())
beforeEach(async () => {
  await stack.db.delete(domains)
  await stack.db.delete(work)
  siteId = await createSite(stack.db)
  const client = await database.pool.connect()
  // As if it had been written before there was anything that notes it.
  await client.query('SET session_replication_role = replica')
  await client.query(
    `INSERT INTO website_pageviews (site_id, page_url, session_id, created_at)
     SELECT $1, '/', 'visitor ' || n, timestamp '2025-06-01' + n * interval '6 hours' FROM generate_series(1, $2::int * 4) n`,
    [siteId, days],
  )
  client.release(true)
})

const program = (lines: string[]) => {
  const program = new Command('website-worker').exitOverride().configureOutput({ writeErr: () => {} })
  const terminal = { print: (line: string) => void lines.push(line), endDrawing: () => {} }
  addBackfillCommand(program, { onDatabase: (job) => job(stack.db), terminal })
  return program
}

async function run(options: string): Promise<string[]> {
  const lines: string[] = []
  const args = `backfill roll-up-analytics --site ${siteId} ${options}`.trim().split(' ')
  await program(lines).parseAsync(args, { from: 'user' })
  return lines
}

const counted = () =>
  one<number>(
    stack.db,
    sql`SELECT coalesce(sum(pageviews), 0)::int FROM website_analytics_site_daily WHERE site_id = ${siteId}`,
  )

test('counts what was written before, when it is asked to', async () => {
  expect(await run('--dry-run')).toEqual([`${days * 4} page views and 0 events would be owed; nothing was changed`])
  expect(await run('--since 2025-06-30 --dry-run')).toEqual([
    `5 page views and 0 events would be owed; nothing was changed`,
  ])
  expect(await counted()).toBe(0)
  stack.work()
  const lines = await run('--since 2025-06-21')
  expect(lines.at(-1)).toBe('done: what was written is counted')
  expect(await counted()).toBe(41)
  await run('')
  expect(await counted()).toBe(days * 4)
})

test('is one job however often it is asked for, and goes on where its worker was stopped', async () => {
  const workers = stack.work()
  let commands: Promise<string[]>[] = []
  await stack.db.transaction(async (tx) => {
    await tx.execute(sql`INSERT INTO website_worker.rollup_sites (site_id) VALUES (${siteId})`)
    commands = [run('')]
    await vi.waitFor(
      async () => expect(await workOf(stack.db, 'roll-up-analytics')).toMatchObject([{ state: 'running' }]),
      15_000,
    )
    commands.push(run(''))
    await vi.waitFor(async () => expect(await workOf(stack.db, 'roll-up-analytics')).toHaveLength(1), 15_000)
    await workers.close(100)
  })
  stack.work()
  const [first, second] = await Promise.all(commands)
  expect(second![0]).toBe(first![0])
  expect(await counted()).toBe(days * 4)
  expect(await workOf(stack.db, 'roll-up-analytics')).toMatchObject([{ state: 'done' }])
})

test('says what keeps it waiting', async () => {
  await disableDomain(stack.db, 'rollups', siteId)
  const [asked, waits] = await run('')
  expect(asked).toMatch(/^job \d+ counts what was written$/)
  expect(waits).toBe('it waits: domain off. See: website-worker domains')
})
