import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { transact } from '../../src/db/client.ts'
import { foldNews, openLanes, recordLanes, type LaneNews } from '../../src/db/queries/lanes.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { someoneWaits } from '../fixtures/plans.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
afterEach(() => database.db.execute(sql`TRUNCATE website_worker.lanes`))

const news = (over: Partial<LaneNews> = {}): LaneNews => ({
  lane: 'a',
  answered: 0,
  failed: 0,
  parked: 0,
  isBroken: false,
  ...over,
})
const note = (...each: Partial<LaneNews>[]) => recordLanes(database.db, each.map(news))

/** Its state; `openS` is for how long it stays open, s, and null when the breaker is closed. */
async function lane(name = 'a') {
  const { rows } = await database.db.execute(
    sql`SELECT "window", opens, round(extract(epoch FROM open_until - changed_at))::int AS "openS"
        FROM website_worker.lanes WHERE lane = ${name}`,
  )
  return rows[0]
}
/** As if the time for which it is open were over. */
const letItPass = () => database.db.execute(sql`UPDATE website_worker.lanes SET open_until = now() - interval '1 ms'`)

test('a lane exists from the first item that had to wait, or when its remote broke; others are not noted', async () => {
  await note({ lane: 'well', answered: 3 }, { lane: 'ill', failed: 3 })
  expect([await lane('well'), await lane('ill')]).toEqual([undefined, undefined])
  await note({ lane: 'waits', parked: 1 }, { lane: 'broke', failed: 1, isBroken: true })
  expect(await lane('waits')).toEqual({ window: 4, opens: 0, openS: null })
  expect(await lane('broke')).toEqual({ window: 8, opens: 1, openS: 1 })
})

describe('the window', () => {
  test('widens by one with each answer, up to 512, and is halved by items that found no place, down to one', async () => {
    await openLanes(database.db, ['a'])
    await note({ answered: 10 })
    expect(await lane()).toMatchObject({ window: 18 })
    await note({ parked: 7, answered: 5 })
    expect(await lane()).toMatchObject({ window: 9 })
    for (let n = 0; n < 6; n++) await note({ parked: 1 })
    expect(await lane()).toMatchObject({ window: 1 })
    await note({ answered: 10_000 })
    expect(await lane()).toMatchObject({ window: 512 })
  })

  test('stays as it is when requests fail', async () => {
    await openLanes(database.db, ['a'])
    await note({ failed: 50 })
    expect(await lane()).toEqual({ window: 8, opens: 0, openS: null })
  })
})

describe('the breaker', () => {
  test('opens for a second, twice as long after each probe that fails, and for a minute at most', async () => {
    await note({ failed: 1, isBroken: true })
    const seconds = [(await lane())?.openS]
    for (let n = 0; n < 9; n++) {
      await letItPass()
      await note({ failed: 1 })
      seconds.push((await lane())?.openS)
    }
    expect(seconds).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60, 60])
    expect(await lane()).toMatchObject({ opens: 10 })
  })

  test('is not opened further by what was under way when it opened', async () => {
    await note({ failed: 1, isBroken: true })
    await note({ failed: 8 })
    await note({ failed: 8, isBroken: true })
    expect(await lane()).toMatchObject({ opens: 1, openS: 1 })
  })

  test('an answer closes it at once, also one that comes late or among failures', async () => {
    await note({ failed: 1, isBroken: true })
    await note({ answered: 1, failed: 7 })
    expect(await lane()).toEqual({ window: 9, opens: 0, openS: null })
    await note({ failed: 1 })
    expect(await lane(), 'one failure of a closed one is nothing').toMatchObject({ opens: 0, openS: null })
  })

  test('items that wait while it is half open neither open nor close it', async () => {
    await note({ failed: 1, isBroken: true })
    await letItPass()
    await note({ parked: 1 })
    expect(await lane()).toMatchObject({ opens: 1, window: 4 })
  })

  test('begins with a small window when it closes', async () => {
    await openLanes(database.db, ['a'])
    await note({ answered: 300 })
    await note({ failed: 1, isBroken: true })
    expect(await lane()).toMatchObject({ window: 8 })
  })
})

test('two transactions that saw the same break open it once', async () => {
  await openLanes(database.db, ['a'])
  const [first, second] = [news({ failed: 3, isBroken: true }), news({ failed: 2, isBroken: true })]
  let other: Promise<void> | undefined
  await transact(database.db, async (tx) => {
    await recordLanes(tx, [first])
    other = recordLanes(database.db, [second])
    await someoneWaits(database.db)
  })
  await other
  expect(await lane()).toMatchObject({ opens: 1, openS: 1 })
})

test('a failure that waited while an answer was noted does not open it again', async () => {
  await note({ failed: 1, isBroken: true })
  await letItPass()
  let other: Promise<void> | undefined
  await transact(database.db, async (tx) => {
    await recordLanes(tx, [news({ answered: 1 })])
    other = recordLanes(database.db, [news({ failed: 1 })])
    await someoneWaits(database.db)
  })
  await other
  expect(await lane()).toMatchObject({ opens: 0, openS: null })
})

test('answers that are noted at the same time all count', async () => {
  await openLanes(database.db, ['a'])
  await Promise.all(Array.from({ length: 20 }, () => note({ answered: 1 })))
  expect(await lane()).toMatchObject({ window: 28 })
})

test('many processes that note many lanes, in any order, do not deadlock', async () => {
  const names = Array.from({ length: 30 }, (_, n) => `lane ${n}`)
  const shuffled = (seed: number) => names.toSorted((a, b) => ((a.length * seed) % 7) - ((b.length * seed) % 5))
  await Promise.all(
    Array.from({ length: 40 }, (_, n) =>
      transact(database.db, (tx) =>
        recordLanes(
          tx,
          foldNews(shuffled(n).map((name, at) => news({ lane: name, parked: (at + n) % 2, answered: 1 }))),
        ),
      ),
    ),
  )
  const { rows } = await database.db.execute(sql`SELECT count(*)::int AS n FROM website_worker.lanes`)
  expect(rows[0]?.n).toBe(30)
})

test('what many runs told is added up by lane', () => {
  expect(
    foldNews([
      news({ lane: 'b', failed: 1 }),
      news({ answered: 1 }),
      news({ parked: 2 }),
      news({ lane: 'b', isBroken: true, failed: 1 }),
    ]),
  ).toEqual([news({ answered: 1, parked: 2 }), news({ lane: 'b', failed: 2, isBroken: true })])
  expect(foldNews([])).toEqual([])
})
