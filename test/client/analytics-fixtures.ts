import type pg from 'pg'

/**
 * Rolled up by hand: 61 days around `day` of each of many sites, so that an index is worth more than reading everything.
 * On each day two pages, two hours, two visits of two visitors, and a third visitor who came every third day.
 */
export async function fillRollups(pool: pg.Pool, siteIds: readonly number[], day: string): Promise<void> {
  const days = `unnest($1::int[]) s(id), generate_series($2::date - 30, $2::date + 30, '1 day') g(at)`
  for (const statement of [
    `INSERT INTO website_analytics_site_daily (site_id, day, pageviews, bot_pageviews, visitors, visits, bounces, visit_seconds)
     SELECT s.id, g.at, 10, 1, 2, 3, 1, 60 FROM ${days}`,
    `INSERT INTO website_analytics_page_daily (site_id, day, page_key, page_id, page_path, pageviews, visitors, entries, exits)
     SELECT s.id, g.at, md5(p.path)::uuid, NULL, p.path, p.views, 2, 1, 1
     FROM ${days}, (VALUES ('/', 7), ('/about', 3)) p(path, views)`,
    `INSERT INTO website_analytics_page_hourly (site_id, hour, page_key, page_path, pageviews, visitors)
     SELECT s.id, (g.at + h.n * interval '1 hour') AT TIME ZONE 'UTC', md5('/')::uuid, '/', h.n, 1
     FROM ${days}, (VALUES (3), (7)) h(n)`,
    `INSERT INTO website_analytics_dimensions_daily (site_id, day, dimension, value, pageviews, visitors, visits)
     SELECT s.id, g.at, x.dimension, v.value, v.views, 1, 1
     FROM ${days}, unnest(ARRAY['country', 'browser', 'referrer_host']) x(dimension), (VALUES ('', 6), ('b', 3), ('a', 3), ('c', 1)) v(value, views)`,
    `INSERT INTO website_analytics_events_daily (site_id, day, event_type, event_name, events, visitors)
     SELECT s.id, g.at, 'click', n.name, n.count, 1 FROM ${days}, (VALUES ('buy', 5), ('look', 2)) n(name, count)`,
    `INSERT INTO website_analytics_visitors (site_id, period, ends_on, visitors)
     SELECT s.id, '7d', g.at, 20 FROM ${days} UNION ALL SELECT s.id, '30d', g.at, 80 FROM ${days} UNION ALL
     SELECT DISTINCT s.id, 'month', (date_trunc('month', g.at) + interval '1 month - 1 day')::date, 90 FROM ${days}`,
    `INSERT INTO website_analytics_visits (site_id, session_id, started_at, ended_at, seconds, pageviews, entry_key, entry_path,
       exit_key, exit_path, referrer_host, utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, device_type, browser)
     SELECT s.id, x.session, x.at, x.at + x.seconds * interval '1 second', x.seconds, 2, md5('/')::uuid, '/', md5('/')::uuid, '/',
       '', '', '', '', '', '', '', '', ''
     FROM ${days}, (VALUES (3, 30), (7, 30)) h(n, seconds),
       LATERAL (SELECT h.seconds, 'visitor ' || h.n || ' of ' || g.at::date AS session, (g.at + h.n * interval '1 hour') AT TIME ZONE 'UTC' AS at) x
     UNION ALL
     SELECT s.id, 'regular', g.at AT TIME ZONE 'UTC', g.at AT TIME ZONE 'UTC', 0, 2, md5('/')::uuid, '/', md5('/')::uuid, '/',
       '', '', '', '', '', '', '', '', ''
     FROM ${days} WHERE extract(day FROM g.at)::int % 3 = 0`,
  ])
    await pool.query(statement, [siteIds, day])
  await pool.query('ANALYZE')
}
