import type pg from 'pg'

export const siteCount = 10
const pagesOfSite = 200

/** Sites, their pages, and nothing else. Returns the sites' ids: as in life, the first have most of the visitors. */
export async function makeSites(pool: pg.Pool): Promise<number[]> {
  const { rows } = await pool.query<{ id: number }>(
    `INSERT INTO website_sites (name, domain, timezone)
     SELECT 'Shop ' || n, 'shop-' || n || '.example',
       (ARRAY['Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'UTC', 'Australia/Sydney'])[1 + n % 5]
     FROM generate_series(1, $1::int) n ORDER BY n RETURNING id`,
    [siteCount],
  )
  await pool.query(
    `INSERT INTO website_pages (site_id, slug, title, status)
     SELECT s.id, 'page-' || n, 'Page ' || n, 'published'
     FROM website_sites s, generate_series(1, $1::int) n ORDER BY s.id, n`,
    [pagesOfSite],
  )
  return rows.map(({ id }) => id)
}

/**
 * Page views as a few shops have them, `$1` of them, spread evenly over the instants from `$2` to `$3`, in order of time.
 * `$4` tells this lot from others. Visits of 1 to 7 views; four in ten visitors come again; one view in twenty is a bot's.
 */
const pageviews = `
  WITH visit AS (
    SELECT v, hashint8extended(v, $4::bigint) & 4294967295 AS h, hashint8extended(v, $4::bigint + 1) & 4294967295 AS g
    FROM generate_series(1::bigint, $1::bigint * 51 / 200 + 10) v
  ), kept AS (
    SELECT v, h, g, 1 + floor(${siteCount} * pow((h % 1000) / 1000.0, 2))::int AS site, h % 20 = 0 AS is_bot,
      $2::timestamptz + ($3::timestamptz - $2::timestamptz) * (v / ($1::bigint * 51 / 200 + 10.0)) AS began
    FROM visit
  ), view AS (
    SELECT k.*, n, hashint8extended(k.v * 8 + n, $4::bigint + 2) & 4294967295 AS r
    FROM kept k CROSS JOIN LATERAL generate_series(0, (k.g % 7)::int) n
  ), page AS (
    SELECT *, 1 + floor(${pagesOfSite} * 1.5 * pow((r % 10000) / 10000.0, 3))::int AS p FROM view
  )
  SELECT s.id AS site_id, w.id AS page_id,
    'https://' || s.domain || CASE WHEN x.p <= ${pagesOfSite} THEN '/page-' ELSE '/search/' END || x.p
      || CASE WHEN x.r % 5 = 0 THEN '?color=blue&page=' || x.r % 9 ELSE '' END AS page_url,
    'Page ' || x.p AS page_title,
    CASE WHEN x.n > 0 THEN 'https://' || s.domain || '/page-' || x.r % 50
         WHEN x.g % 10 < 6 THEN 'https://' || (ARRAY['www.google.com', 'duckduckgo.com', 'www.bing.com', 'news.example',
           'm.facebook.com', 'blog.example'])[1 + x.g % 6] || '/search?q=' || x.g % 1000 END AS referrer,
    CASE WHEN x.is_bot THEN 'Mozilla/5.0 (compatible; Googlebot/2.' || x.g % 5 || '; +http://www.google.com/bot.html)'
         ELSE 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/' || 100 + x.g % 40
           || '.0.' || x.h % 10 || '.0 Safari/537.36' END AS user_agent,
    '10.0.0.0'::inet + (x.g % 16000000) AS ip_address,
    CASE WHEN NOT x.is_bot AND x.g % 50 > 0
      THEN md5(x.site || ':' || $4 || ':' || CASE WHEN x.h % 5 < 2 THEN x.g % ($1::bigint / 20 + 1) ELSE -x.v END) END AS session_id,
    CASE WHEN x.g % 7 = 0 THEN (ARRAY['newsletter', 'google', 'partner'])[1 + x.g % 3] END AS utm_source,
    CASE WHEN x.g % 7 = 0 THEN (ARRAY['email', 'cpc', 'referral'])[1 + x.g % 3] END AS utm_medium,
    CASE WHEN x.g % 7 = 0 THEN 'campaign-' || x.g % 20 END AS utm_campaign,
    (ARRAY['DE', 'US', 'IN', 'FR', 'GB', 'AU', 'NL', 'ES', 'IT', 'PL'])[1 + x.g % 10] AS country,
    (ARRAY['desktop', 'mobile', 'mobile', 'tablet'])[1 + x.h % 4] AS device_type,
    (ARRAY['Chrome', 'Safari', 'Firefox', 'Edge'])[1 + x.g % 4] AS browser,
    least(x.began + x.n * (20 + x.r % 100) * interval '1 second', $3::timestamptz - interval '1 ms') AT TIME ZONE 'UTC' AS created_at
  FROM page x
  JOIN website_sites s ON s.domain = 'shop-' || x.site || '.example'
  LEFT JOIN website_pages w ON w.site_id = s.id AND w.slug = 'page-' || x.p
  LIMIT $1::bigint`

const columns = `site_id, page_id, page_url, page_title, referrer, user_agent, ip_address, session_id, utm_source, utm_medium,
  utm_campaign, country, device_type, browser, created_at`

export interface Span {
  rows: number
  from: Date
  to: Date
  seed: number
}

/** Adds page views in one statement, as the main app would: every trigger and key is at work. */
export async function addPageviews(pool: pg.Pool, { rows, from, to, seed }: Span): Promise<void> {
  await pool.query(`INSERT INTO website_pageviews (${columns}) ${pageviews}`, [rows, from, to, seed])
}

/** Adds page views that were there before: nothing hears of them, and the indexes are built once they are in. */
export const addHistory = (pool: pg.Pool, { rows, from, to, seed }: Span) =>
  inSilence(pool, `INSERT INTO website_pageviews (${columns}) ${pageviews}`, [rows, from, to, seed])

/** Gives the page views a longer past: those there are, as many spans of days earlier. */
export const repeatHistory = (pool: pg.Pool, spans: number, days: number) =>
  inSilence(
    pool,
    `INSERT INTO website_pageviews (${columns})
     SELECT ${columns.replace('created_at', `created_at - n * interval '${days} days'`)}
     FROM website_pageviews, generate_series(1, ${spans}) n`,
  )

async function inSilence(pool: pg.Pool, statement: string, values: unknown[] = []): Promise<void> {
  const client = await pool.connect()
  try {
    const { rows: indexes } = await client.query<{ drop: string; create: string }>(
      `SELECT 'DROP INDEX ' || i.indexrelid::regclass AS drop, pg_get_indexdef(i.indexrelid) AS create
       FROM pg_index i WHERE i.indrelid = 'website_pageviews'::regclass AND NOT i.indisprimary`,
    )
    await client.query(`SET session_replication_role = replica; SET maintenance_work_mem = '512MB'; SET jit = off`)
    for (const { drop } of indexes) await client.query(drop)
    await client.query(statement, values)
    for (const { create } of indexes) await client.query(create)
  } finally {
    client.release(true)
  }
  await pool.query('VACUUM (ANALYZE) website_pageviews')
}

/** Gives the rollups a longer past: what is counted of one span, as many spans earlier. */
export async function repeatRollups(pool: pg.Pool, spans: number, days: number): Promise<void> {
  const tables = ['site_daily', 'page_hourly', 'page_daily', 'dimensions_daily', 'events_daily', 'visits', 'visitors']
  for (const table of tables.map((name) => `website_analytics_${name}`)) {
    const { rows } = await pool.query<{ name: string; isTime: boolean }>(
      `SELECT column_name AS name, data_type IN ('date', 'timestamp with time zone') AS "isTime"
       FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position`,
      [table],
    )
    const earlier = rows.map(({ name, isTime }) => (isTime ? `${name} - n * interval '${days} days'` : name))
    await pool.query(
      `INSERT INTO ${table} SELECT ${earlier.join(', ')} FROM ${table}, generate_series(1, ${spans}) n ON CONFLICT DO NOTHING`,
    )
  }
}
