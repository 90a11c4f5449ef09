import fc from 'fast-check'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

async function lanesOf(urls: readonly string[]): Promise<(string | null)[]> {
  const { rows } = await database.db.execute(
    sql`SELECT website_worker.lane_of(url) AS lane FROM unnest(${sql.param(urls)}::text[]) WITH ORDINALITY u(url, n) ORDER BY n`,
  )
  return rows.map((row) => row.lane as string | null)
}

test.each([
  ['https://shop.example/hook', 'https://shop.example'],
  ['HTTPS://Shop.Example:443/Hook?Token=1#x', 'https://shop.example'],
  ['http://shop.example:80', 'http://shop.example'],
  ['http://shop.example:443/', 'http://shop.example:443'],
  ['http://user:p%40ss@shop.example:8080?x=@evil', 'http://shop.example:8080'],
  ['http://a@b@shop.example/', 'http://shop.example'],
  ['http:\\\\shop.example\\@evil.example/', 'http://shop.example'],
  ['http://[::1]:80/', 'http://[::1]'],
  ['http://[2001:DB8::80]/', 'http://[2001:db8::80]'],
  ['http://victim.example\t.evil.example/', 'http://victim.example.evil.example'],
  ['http://victim.example\r\n.evil.example/', 'http://victim.example.evil.example'],
  ['ht\ntp://shop.example', 'http://shop.example'],
  ['http://victim.example .evil.example/', null],
  ['http://victim.example\u0001.evil.example/', null],
  ['http:/shop.example/', null],
  ['http:///shop.example/', null],
  [' http://shop.example/', null],
  ['https://user:topsecret/x@shop.example/', null],
  ['https://shop.example:99999999/', null],
  ['not a url', null],
  ['', null],
  [`http://${'a'.repeat(256)}/`, null],
  [`http://${'a'.repeat(10_000)}@shop.example/${'b'.repeat(10_000)}`, 'http://shop.example'],
])('the lane of %j', async (url, lane) => {
  expect(await lanesOf([url])).toEqual([lane])
})

test('no two origins ever share a lane, whatever the spelling', async () => {
  const host = fc.constantFrom('victim.example', 'evil.example', '127.0.0.1', '[::1]', 'v', 'e')
  const odd = fc.constantFrom(
    '',
    '\t',
    '\n',
    '\r',
    ' ',
    '\u00a0',
    '\u00ad',
    '\u200b',
    '\u2028',
    '\u3002',
    '\u0001',
    '\u0085',
    '.',
    '@',
    ':',
    '/',
    '\\',
    '?',
    '#',
    '%2e',
    '%00',
    ';',
    ':80',
    ':443',
    ':8080',
    '\ufeff',
    '\u3000',
    '\uff0f',
  )
  const url = fc
    .tuple(
      fc.constantFrom('http', 'https', 'HTTP'),
      fc.constantFrom('://', ':\\\\', ':/', ':///'),
      fc.array(fc.oneof(host, odd), { minLength: 1, maxLength: 6 }),
    )
    .map(([scheme, slashes, parts]) => scheme + slashes + parts.join(''))
    .filter((text) => URL.canParse(text))
  await fc.assert(
    fc.asyncProperty(fc.array(url, { minLength: 50, maxLength: 200 }), async (urls) => {
      const originOf = new Map<string, { origin: string; url: string }>()
      for (const [n, lane] of (await lanesOf(urls)).entries()) {
        const { origin } = new URL(urls[n]!)
        if (lane === null) continue
        const other = originOf.get(lane)
        if (other) expect(origin, JSON.stringify([lane, other.url, urls[n]])).toBe(other.origin)
        originOf.set(lane, { origin, url: urls[n]! })
      }
    }),
    { numRuns: 150 },
  )
})
