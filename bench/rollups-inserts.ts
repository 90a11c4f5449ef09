import type pg from 'pg'
import { percentile } from './measure.ts'

const batch = 100
const batches = 60
const rounds = 15

/** What a batch of the main app holds: views of the last minute, of all sites. */
const columns = [
  'site_id',
  'page_url',
  'page_title',
  'referrer',
  'user_agent',
  'ip_address',
  'session_id',
  'country',
  'device_type',
  'browser',
  'created_at',
]

const text = `INSERT INTO website_pageviews (${columns.join(', ')}) VALUES ${Array.from(
  { length: batch },
  (_, row) => `(${columns.map((_, column) => `$${row * columns.length + column + 1}`).join(', ')})`,
).join(', ')}`

const agent =
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36'

function valuesOf(siteIds: readonly number[], n: number): unknown[] {
  return Array.from({ length: batch }, (_, row) => {
    const i = n * batch + row
    const siteId = siteIds[i % siteIds.length]
    const session = `session-${Math.floor(i / 4)}-of-a-visitor`
    const at = new Date(Date.now() - (i % 60) * 1_000).toISOString()
    const url = `https://shop.example/page-${i % 200}?color=blue`
    const rest = [
      'Page',
      'https://www.google.com/',
      agent,
      `10.0.${i % 250}.${n % 250}`,
      session,
      'DE',
      'desktop',
      'Chrome',
      at,
    ]
    return [siteId, url, ...rest]
  }).flat()
}

/** How fast batches go in while the triggers note them, as a share of how fast they do without. */
export async function measureInserts(pool: pg.Pool, siteIds: readonly number[]): Promise<number> {
  const { rows: triggers } = await pool.query<{ name: string }>(
    `SELECT tgname AS name FROM pg_trigger WHERE tgrelid = 'website_pageviews'::regclass AND NOT tgisinternal
       AND tgfoid = 'website_worker.note_analytics'::regproc`,
  )
  if (triggers.length === 0) throw new Error('there are no triggers to measure')
  const client = await pool.connect()
  let sent = 0
  const round = async (how: 'ENABLE' | 'DISABLE') => {
    for (const { name } of triggers) await client.query(`ALTER TABLE website_pageviews ${how} TRIGGER ${name}`)
    const lots = Array.from({ length: batches }, () => valuesOf(siteIds, sent++))
    const began = performance.now()
    for (const values of lots) await client.query({ name: 'bench', text, values })
    return performance.now() - began
  }
  try {
    await round('ENABLE')
    const ratios: number[] = []
    for (let n = 0; n < rounds; n++) {
      // Each goes first as often as the other.
      const [first, second] = n % 2 === 0 ? (['DISABLE', 'ENABLE'] as const) : (['ENABLE', 'DISABLE'] as const)
      const took = { [first]: await round(first), [second]: await round(second) } as Record<
        'ENABLE' | 'DISABLE',
        number
      >
      ratios.push(took.DISABLE / took.ENABLE)
    }
    await round('ENABLE')
    return percentile(ratios, 0.5)
  } finally {
    client.release()
  }
}
