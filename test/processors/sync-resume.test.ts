import { sql } from 'drizzle-orm'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { transact } from '../../src/db/client.ts'
import { fence } from '../../src/db/queries/sync/run.ts'
import { renewRun, sweepRuns } from '../../src/db/queries/sync/runs.ts'
import { cancel } from '../../src/work/transitions.ts'
import type { ErpMood } from '../fixtures/erp.ts'
import { createSyncStack, type SyncStack, type SyncStackOptions } from './sync-fixtures.ts'

let stack: SyncStack
let workers: ReturnType<SyncStack['work']>
async function start(options: Partial<SyncStackOptions> = {}) {
  stack = await createSyncStack({ jobs: ['sync-inventory'], ...options })
  workers = stack.work()
  stack.dispatcher.start()
}
afterEach(() => stack.close())

/** Something to wait for. */
function flag() {
  let raise = () => {}
  const raised = new Promise<void>((resolve) => void (raise = resolve))
  return { raise, raised }
}

const eventually = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 30 })
const ask = async (siteId: number, payload: object = {}) =>
  (await stack.ask('sync-inventory', { siteId, ...payload })).workId
const done = (workId: number) =>
  eventually(async () => {
    const item = await stack.item(workId)
    expect(item, item.lastError ?? '').toMatchObject({ state: 'done' })
    return item
  })

/** A site of `n` products, two a page, and something that waits until page `at` is asked for, which is then never answered. */
async function stuckAt(at: number, n = 10) {
  const siteId = await stack.site({ pageSize: 2 })
  await stack.products(siteId, n)
  stack.stock(n, (i) => i)
  let isStuck = true
  const reached = flag()
  stack.erp.onRequest(({ n: asked }) => {
    if (!isStuck || asked < at) return 'serve'
    reached.raise()
    return 'hang'
  })
  return { siteId, reached: reached.raised, free: () => void (isStuck = false) }
}

/** A run whose process ended while page `at` was asked for. */
async function brokenOffAt(at: number) {
  const { siteId, reached, free } = await stuckAt(at)
  const workId = await ask(siteId)
  await reached
  free()
  await workers.close(5_000)
  return { siteId, workId }
}

async function expectExact(siteId: number, n = 10) {
  const quantities = await stack.quantities(siteId)
  for (let i = 1; i <= n; i++) expect(quantities.get(`S-${i}`)).toBe(i)
}

describe('a run that is broken off', () => {
  test('goes on in another process, and asks for no page twice but the last', async () => {
    await start()
    const { siteId, workId } = await brokenOffAt(4)
    stack.work()
    expect(await done(workId)).toMatchObject({ result: { counts: { fetched: 10, updated: 10 } } })
    await expectExact(siteId)
    expect([...stack.erp.timesAsked().values()]).toEqual([1, 1, 1, 2, 1])
    expect(await stack.runs(siteId)).toMatchObject([{ state: 'done', pages: 5 }])
  })

  test('makes records of a page that was only kept when its process ended, and does not ask for it again', async () => {
    await start()
    const { siteId, workId } = await brokenOffAt(4)
    // As it was between the two transactions of the third page.
    await stack.db.execute(
      sql`WITH third AS (
            DELETE FROM website_worker.sync_staging s WHERE s.n IN (5, 6) RETURNING s.run_id, s.n, s.sku, s.version, s.quantity)
          INSERT INTO website_worker.sync_staging (run_id, n, kind, page)
          SELECT run_id, 5, 'page', json_agg(json_build_object('kind', 'level', 'sku', sku, 'version', version::text,
            'quantity', quantity) ORDER BY n) FROM third GROUP BY run_id`,
    )
    stack.work()
    expect(await done(workId)).toMatchObject({ result: { counts: { fetched: 10, updated: 10 } } })
    await expectExact(siteId)
    expect([...stack.erp.timesAsked().values()]).toEqual([1, 1, 1, 2, 1])
  })

  test('goes on although the queue was wiped', async () => {
    await start()
    const { siteId, workId } = await brokenOffAt(3)
    await stack.backend.queue('sync-inventory').obliterate({ force: true })
    await stack.db.execute(sql`UPDATE website_worker.epoch SET queue_id = 'another'`)
    stack.work()
    await done(workId)
    await expectExact(siteId)
    expect(await stack.runs(siteId)).toMatchObject([{ state: 'done', pages: 5 }])
  })

  test('begins anew once the server has lost what it had read', async () => {
    await start()
    const { siteId, reached, free } = await stuckAt(4)
    const workId = await ask(siteId)
    await reached
    // What a crash of the server does to an unlogged table.
    await stack.db.execute(sql`TRUNCATE website_worker.sync_staging`)
    free()
    await workers.close(5_000)
    stack.work()
    await done(workId)
    await expectExact(siteId)
    expect(await stack.runs(siteId)).toMatchObject([
      { state: 'abandoned', error: 'what it had read is lost, or of another ERP' },
      { state: 'done', pages: 5 },
    ])
  })

  test('stages nothing more once the server has lost the first pages under way', async () => {
    await start()
    const siteId = await stack.site({ pageSize: 2 })
    await stack.products(siteId, 10)
    stack.stock(10, (i) => i)
    stack.erp.onRequest(async ({ n }): Promise<ErpMood> => {
      if (n === 4) await stack.db.execute(sql`TRUNCATE website_worker.sync_staging`)
      return 'serve'
    })
    await done(await ask(siteId))
    await expectExact(siteId)
    expect((await stack.runs(siteId)).map(({ state }) => state)).toEqual(['abandoned', 'done'])
  })

  test('writes no more once another process has it', async () => {
    await start()
    const siteId = await stack.site({ pageSize: 2 })
    stack.stock(6, (i) => i)
    stack.erp.onRequest(async ({ n }): Promise<ErpMood> => {
      if (n === 2)
        await stack.db.execute(
          sql`UPDATE website_worker.sync_runs SET token = gen_random_uuid(), work_id = 0, lease_until = now() + interval '1 day'`,
        )
      return 'serve'
    })
    const workId = await ask(siteId)
    await eventually(async () => expect((await stack.item(workId)).generation).toBeGreaterThan(2))
    expect(await stack.item(workId)).toMatchObject({ attempts: 0 })
    expect(await stack.runs(siteId)).toMatchObject([{ state: 'running', pages: 1, staged: 2, workId: 0 }])
    expect(stack.erp.requests).toHaveLength(2)
  })
})

describe('runs of a site', () => {
  test('take turns, and those of different sites do not', async () => {
    await start()
    const sites = [await stack.site(), await stack.site()]
    const inFlight = new Set<string>()
    const together = flag()
    stack.erp.onRequest(async ({ headers }): Promise<ErpMood> => {
      inFlight.add(/site=(\d+)/.exec(String(headers['user-agent']))![1]!)
      if (inFlight.size === 2) together.raise()
      await together.raised
      return 'serve'
    })
    const [first, second] = sites as [number, number]
    const ids = [await ask(first), await ask(second)]
    await together.raised
    // A later item of the same site, while the first one's run may still be under way.
    ids.push(await ask(first, { mode: 'full' }))
    for (const id of ids) await done(id)
    const runs = await stack.runs(first)
    expect(runs.map(({ state }) => state)).toEqual(['done', 'done'])
    expect(runs[1]!.startedAt.getTime()).toBeGreaterThanOrEqual(runs[0]!.finishedAt!.getTime())
  })

  test('wait for one that is under way, at no attempt', async () => {
    await start()
    const { siteId, reached, free } = await stuckAt(2)
    const first = await ask(siteId)
    await reached
    const second = await ask(siteId, { force: true })
    await eventually(async () =>
      expect(await stack.item(second)).toMatchObject({ state: 'owed', generation: 2, attempts: 0 }),
    )
    expect(await stack.runs(siteId)).toMatchObject([{ workId: first, state: 'running' }])
    free()
    await workers.close(5_000)
    stack.work()
    await done(first)
    await done(second)
    expect((await stack.runs(siteId)).map(({ workId, state }) => [workId, state])).toEqual([
      [first, 'done'],
      [second, 'done'],
    ])
  })

  test('do not wait for one that was left behind', async () => {
    await start()
    const siteId = await stack.site()
    await stack.db.execute(
      sql`INSERT INTO website_worker.sync_runs (site_id, type, mode, work_id, token, lease_until, source)
          VALUES (${siteId}, 'inventory', 'full', 0, gen_random_uuid(), now() - interval '1 s', 'elsewhere')`,
    )
    await done(await ask(siteId))
    expect((await stack.runs(siteId)).map(({ state }) => state)).toEqual(['abandoned', 'done'])
  })
})

test('what ended runs had read is removed, and a run whose job was cancelled is given up', async () => {
  await start()
  const { siteId, reached } = await stuckAt(2)
  const workId = await ask(siteId)
  await reached
  await cancel(stack.db, [workId], 'enough')
  await workers.close(5_000)
  const staged = async () =>
    (await stack.db.execute(sql`SELECT count(*)::int AS n FROM website_worker.sync_staging`)).rows[0]!['n']
  expect(await staged()).toBe(2)
  await sweepRuns(stack.db, 1_000)
  expect(await staged()).toBe(2)
  await stack.db.execute(sql`UPDATE website_worker.sync_runs SET lease_until = now() - interval '1 s'`)
  await sweepRuns(stack.db, 1_000)
  expect(await staged()).toBe(0)
  expect(await stack.runs(siteId)).toMatchObject([{ state: 'abandoned', error: 'its job ended without it' }])
})

test('keeps its lease as long as it is its own, and waits for no chunk of it', async () => {
  await start()
  const { siteId, reached } = await stuckAt(2)
  await ask(siteId)
  await reached
  const [run] = await stack.runs(siteId)
  const mine = { runId: run!.id, token: run!.token }
  await stack.db.execute(sql`UPDATE website_worker.sync_runs SET lease_until = now()`)
  expect(await renewRun(stack.db, mine)).toBe(true)
  expect((await stack.runs(siteId))[0]!.leaseUntil.getTime()).toBeGreaterThan(run!.startedAt.getTime() + 20_000)
  await transact(stack.db, async (tx) => {
    await fence(tx, mine)
    expect(await renewRun(stack.db, mine)).toBe(true)
  })
  expect(await renewRun(stack.db, { ...mine, token: crypto.randomUUID() })).toBe(false)
})
