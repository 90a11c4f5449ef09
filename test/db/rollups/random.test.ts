import { sql } from 'drizzle-orm'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../fixtures/database.ts'
import { createSite } from '../main-app.ts'
import { readRollups, recount } from './recount.ts'
import { rollUp } from './rollup-fixtures.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

const agents = [
  null,
  '',
  'Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/130.0',
  'Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)',
  `curl/8 ${'x'.repeat(6_000)}`,
]
/** Longer than what is stored of a path. */
const long = `/${'ü'.repeat(1_100)}`
const urls = [
  '',
  '/',
  '/a?b=c',
  'https://shop.example',
  'https://shop.example/a?b=/c#d',
  'HTTPS://Shop.example/a#b?c',
  '//shop.example/ü/%20?q=ü',
  long,
  `${long}?${'x'.repeat(6_000)}`,
  `${long}/`,
  'javascript:alert(1)',
]
const referrers = [
  null,
  '',
  ' https://WWW.Google.com/search?q=1',
  'https://user:pass@bücher.example:8443/x?y',
  'http:\\\\back.example\\slash',
  'android-app://com.google.android.gm/',
  'garbage',
  'https://',
  `https://${'a'.repeat(400)}.example/`,
  'mailto:a@b.example',
  'https://[2001:db8::1]/',
]

const minute = fc.oneof(fc.nat(120), fc.nat(3 * 24 * 60), fc.integer({ min: -90_000, max: 90_000 }))
const row = fc.record({
  minute,
  second: fc.constantFrom(0, 0, 59.999_999, 30.5),
  session: fc.constantFrom('a', 'a', 'a', 'b', 'c', '', null, 'é€'),
  url: fc.constantFrom(...urls),
  agent: fc.constantFrom(...agents),
  referrer: fc.constantFrom(...referrers),
  source: fc.constantFrom(null, '', 'mail'),
  site: fc.constantFrom(0, 0, 0, 1, null),
})
const action = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('insert' as const), rows: fc.array(row, { minLength: 1, maxLength: 8 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('delete' as const), nth: fc.nat(20), n: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('move' as const),
      nth: fc.nat(20),
      minute,
      session: row.map((r) => r.session),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('zone' as const),
      zone: fc.constantFrom('UTC', 'Asia/Kolkata', 'America/New_York', 'Nowhere/Land', '', null),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('roll' as const) }) },
)

const at = (minutes: number, seconds = 0) =>
  sql`timestamp '2026-03-08 05:00' + ${minutes} * interval '1 minute' + ${seconds} * interval '1 second'`

test('equals a recount after any writes, wherever roll-ups happen in between', { timeout: 30_000 }, async () => {
  const { db } = database
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 14 }), async (actions) => {
      await db.execute(sql`DELETE FROM website_sites`)
      const gone = await db.execute(sql`SELECT site_id AS "siteId" FROM website_worker.rollup_sites`)
      for (const { siteId } of gone.rows) await rollUp(db, { siteId: siteId as number })
      const sites = [
        await createSite(db, { timezone: 'America/New_York' }),
        await createSite(db, { timezone: 'Asia/Kolkata' }),
      ]
      const roll = async () => {
        for (const siteId of sites) expect(await rollUp(db, { siteId })).toMatchObject({ kind: 'done' })
      }
      for (const act of actions) {
        if (act.kind === 'roll') await roll()
        if (act.kind === 'truncate') await db.execute(sql`TRUNCATE website_pageviews`)
        if (act.kind === 'zone')
          await db.execute(sql`UPDATE website_sites SET timezone = ${act.zone} WHERE id = ${sites[0]!}`)
        if (act.kind === 'delete')
          await db.execute(sql`DELETE FROM website_pageviews WHERE id IN (
            SELECT id FROM website_pageviews ORDER BY created_at, id OFFSET ${act.nth} LIMIT ${act.n})`)
        if (act.kind === 'move')
          await db.execute(sql`UPDATE website_pageviews SET created_at = ${at(act.minute)}, session_id = ${act.session}
            WHERE id IN (SELECT id FROM website_pageviews ORDER BY created_at, id OFFSET ${act.nth} LIMIT 1)`)
        if (act.kind !== 'insert') continue
        await db.execute(sql`INSERT INTO website_pageviews
          (site_id, page_url, session_id, user_agent, referrer, utm_source, created_at) VALUES ${sql.join(
            act.rows.map(
              (
                r,
              ) => sql`(${r.site === null ? null : sites[r.site]!}::int, ${r.url}, ${r.session}, ${r.agent}, ${r.referrer},
                ${r.source}, ${at(r.minute, r.second)})`,
            ),
            sql`, `,
          )}`)
        await db.execute(sql`INSERT INTO website_events (site_id, event_type, event_name, session_id, created_at) VALUES
          (${sites[0]!}, 'click', ${act.rows[0]!.url.slice(0, 255)}, ${act.rows[0]!.session}, ${at(act.rows[0]!.minute)})`)
      }
      await roll()
      expect(await readRollups(db)).toEqual(await recount(db))
    }),
    { numRuns: 12 },
  )
})
