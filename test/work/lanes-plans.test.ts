import { sql } from 'drizzle-orm'
import type pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Db } from '../../src/db/client.ts'
import type { Bell } from '../../src/work/bell.ts'
import { createLanePuller, ringLanes } from '../../src/work/lanes.ts'
import { createMovedSweep } from '../../src/work/moved.ts'
import { pino } from 'pino'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

const lanes = 5_000
const each = 20

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
  const { db } = database
  await db.execute(
    sql`INSERT INTO website_worker.lanes (lane, "window") SELECT 'lane ' || l, 8 FROM generate_series(1, ${lanes}::int) l`,
  )
  // A hundred thousand that wait, as many that are over, and thousands in the queue.
  await db.execute(
    sql`INSERT INTO website_worker.work (job, key, payload, lane, state, rung_at, finished_at, next_at)
        SELECT 'j', i::text, '{}', 'lane ' || 1 + i % ${lanes}::int,
          CASE i / ${lanes * each}::int WHEN 0 THEN 'owed' ELSE 'done' END,
          CASE WHEN i % 50 = 7 THEN now() END, CASE i / ${lanes * each}::int WHEN 0 THEN NULL ELSE now() END,
          now() + (i % 600 - 300) * interval '1 s'
        FROM generate_series(1, ${2 * lanes * each}::int) i`,
  )
  await db.execute(sql`VACUUM ANALYZE website_worker.work, website_worker.lanes`)
}, 120_000)
afterAll(() => database.drop())

interface Statement {
  text: string
  plan: string
}

/** The same database, noting how Postgres goes about each statement, also in transactions. */
function explaining({ db, pool }: TestDatabase): { db: Db; statements: Statement[] } {
  const statements: Statement[] = []
  type Query = (config: { text: string }, values?: unknown[]) => Promise<pg.QueryResult>
  const noting =
    (query: Query): Query =>
    async (config, values) => {
      if (/^\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b/i.test(config.text)) {
        const { rows } = await query({ ...config, text: `EXPLAIN ${config.text}` }, values)
        statements.push({ text: config.text, plan: rows.map((row) => Object.values(row)[0]).join('\n') })
      }
      return query(config, values)
    }
  const connect = async () => {
    const client = await pool.connect()
    const query = noting(client.query.bind(client) as unknown as Query)
    return new Proxy(client, { get: (target, key) => (key === 'query' ? query : bound(target, key)) })
  }
  const client = new Proxy(pool, { get: (target, key) => (key === 'connect' ? connect : bound(target, key)) })
  const execute = async (statement: Parameters<Db['execute']>[0]) => {
    const { rows } = await db.execute(sql`EXPLAIN ${statement as ReturnType<typeof sql>}`)
    statements.push({ text: String(rows.length), plan: rows.map((row) => Object.values(row)[0]).join('\n') })
    return db.execute(statement)
  }
  return {
    db: new Proxy(db, {
      get: (target, key) => (key === 'execute' ? execute : key === '$client' ? client : Reflect.get(target, key)),
    }),
    statements,
  }
}

function bound<T extends object>(target: T, key: string | symbol): unknown {
  const value: unknown = Reflect.get(target, key)
  return typeof value === 'function' ? value.bind(target) : value
}

const log = pino({ level: 'silent' })
const bell = { ready: () => true, ringNow: async () => {} } as unknown as Bell

function expectIndexes(statements: readonly Statement[]) {
  for (const { plan } of statements) expect(plan).not.toMatch(/Seq Scan on work\b/)
}

test('ringing five thousand lanes reads their heads from indexes, not the hundred thousand that wait', async () => {
  const { db, statements } = explaining(database)
  expect(await ringLanes({ db, bell, log })).toBeGreaterThan(lanes)
  expectIndexes(statements)
  const turns = statements.filter(({ plan }) => plan.includes('work_lane_rung') && plan.includes('LockRows'))
  expect(turns.length).toBeGreaterThan(0)
  for (const { plan } of turns) expect(plan).toMatch(/using work_parked/)
})

test('one lane is pulled by its own rows alone', async () => {
  const { db, statements } = explaining(database)
  const puller = createLanePuller({ db, bell, log })
  puller.pull('lane 17')
  await puller.settled()
  expect(statements.length).toBeGreaterThan(0)
  expectIndexes(statements)
  for (const { plan } of statements) expect(plan).not.toMatch(/Seq Scan on lanes/)
})

test('what moved is looked for in the order of the index', async () => {
  const { db, statements } = explaining(database)
  const job = { name: 'j', schema: { safeParse: () => ({ success: true }) } } as never
  const lanesOf = new Map([
    [
      'j',
      async (_: Db, items: readonly { workId: number }[]) =>
        new Map(items.map(({ workId }) => [workId, { lane: 'elsewhere', isManaged: false }])),
    ],
  ])
  const sweep = createMovedSweep({ db, jobs: [job], lanesOf }, { budgetMs: 0 })
  expect([await sweep(), await sweep()]).toEqual([1_000, 1_000])
  expectIndexes(statements)
  expect(statements[0]?.plan).toContain('using work_parked')
  expect(statements[2]?.plan).toContain('using work_parked')
  for (const { plan } of statements) expect(plan).not.toMatch(/Sort .*next_at/)
})

test('freeing looks at a few rows of each lane', async () => {
  await database.db.execute(sql`UPDATE website_worker.lanes SET changed_at = now() - interval '1 day'`)
  await database.db.execute(sql`UPDATE website_worker.work SET state = 'done' WHERE lane < 'lane 2'`)
  const { db, statements } = explaining(database)
  await ringLanes({ db, bell: { ...bell, ready: () => false }, log })
  expectIndexes(statements)
  const { rows } = await database.db.execute(
    sql`SELECT count(*)::int AS n FROM website_worker.lanes WHERE lane < 'lane 2'`,
  )
  expect(rows[0]?.n).toBeLessThan(1_111)
})
