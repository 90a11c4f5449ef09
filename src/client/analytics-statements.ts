import type { AnalyticsPart, ParsedAnalyticsQuery } from './analytics-query.ts'
import type { Argument } from './handle.ts'

/** A SELECT of one `value`: JSON as text, so that no driver makes of it what it will. */
export interface AnalyticsStatement {
  args: readonly Argument[]
  text(...args: string[]): string
}

const json = (value: string, from: string) => `SELECT (${value})::text AS value ${from}`

const counts = `'pageviews', coalesce(sum(d.pageviews), 0), 'botPageviews', coalesce(sum(d.bot_pageviews), 0),
  'visits', coalesce(sum(d.visits), 0), 'bounces', coalesce(sum(d.bounces), 0),
  'visitSeconds', coalesce(sum(d.visit_seconds), 0)`

const rangeOf = ({ siteId, from, to }: ParsedAnalyticsQuery): readonly Argument[] => [
  [siteId, 'int'],
  [from, 'text::date'],
  [to, 'text::date'],
]

/** The instants between which a range of days lies in the site's zone. */
const instants = (site: string, from: string, to: string) => `
  SELECT z.zone, website_worker.instant_of(${from}::timestamp, z.zone) AS began,
    website_worker.instant_of((${to} + 1)::timestamp, z.zone) AS ended
  FROM (SELECT coalesce(website_worker.zone_of(s.timezone), 'UTC') AS zone FROM public.website_sites s
        WHERE s.id = ${site} OFFSET 0) z`

/** The site's zone, and whether its analytics may be read; none where there is no such site. Uses website_sites_pkey. */
export const siteStatement = ({ siteId }: ParsedAnalyticsQuery): AnalyticsStatement => ({
  args: [[siteId, 'int']],
  text: (site) =>
    json(
      `json_build_object('timezone', coalesce(website_worker.zone_of(s.timezone), 'UTC'),
         'mayRead', has_table_privilege('public.website_pageviews', 'SELECT'))`,
      `FROM public.website_sites s WHERE s.id = ${site}`,
    ),
})

// Distinct visitors of any range. Uses website_analytics_visits_started for what began in the range or in the six hours
// before it, and website_analytics_visits_long for what had begun earlier and went on.
const countedVisitors = (site: string, from: string, to: string) => `
  (SELECT count(DISTINCT v.session_id) FROM (${instants(site, from, to)}) r CROSS JOIN LATERAL (
     SELECT v.session_id FROM public.website_analytics_visits v WHERE v.site_id = ${site}
       AND v.started_at >= r.began - interval '6 hours' AND v.started_at < r.ended AND v.ended_at >= r.began
     UNION ALL
     SELECT v.session_id FROM public.website_analytics_visits v WHERE v.site_id = ${site}
       AND v.seconds > 21600 AND v.started_at < r.began - interval '6 hours' AND v.ended_at >= r.began) v)`

// A day, 7 or 30 of them, or a calendar month: what is kept. Uses the primary keys of both tables.
const keptVisitors = (site: string, from: string, to: string) => `
  CASE WHEN ${from} = ${to} THEN coalesce((SELECT d.visitors FROM public.website_analytics_site_daily d
         WHERE d.site_id = ${site} AND d.day = ${from}), 0)
       WHEN ${to} - ${from} IN (6, 29) OR extract(day FROM ${from}) = 1 AND ${from} + interval '1 month' = ${to} + 1
       THEN coalesce((SELECT p.visitors FROM public.website_analytics_visitors p WHERE p.site_id = ${site} AND p.ends_on = ${to}
         AND p.period = CASE ${to} - ${from} WHEN 6 THEN '7d' WHEN 29 THEN '30d' ELSE 'month' END), 0) END`

/** How each part is read. */
export const analyticsStatements: Record<AnalyticsPart, (query: ParsedAnalyticsQuery) => AnalyticsStatement> = {
  // website_analytics_site_daily_pkey, and as above.
  totals: (query) => ({
    args: rangeOf(query),
    text: (site, from, to) =>
      json(
        `json_build_object(${counts}, 'visitors', coalesce(${keptVisitors(site!, from!, to!)},
           ${query.countVisitors ? countedVisitors(site!, from!, to!) : 'NULL'}))`,
        `FROM public.website_analytics_site_daily d WHERE d.site_id = ${site} AND d.day BETWEEN ${from} AND ${to}`,
      ),
  }),

  // website_analytics_site_daily_pkey.
  days: (query) => ({
    args: rangeOf(query),
    text: (site, from, to) =>
      json(
        `json_agg(t.point ORDER BY t.day)`,
        `FROM (
           SELECT g.day, json_build_object('day', g.day::date, ${counts}, 'visitors', coalesce(sum(d.visitors), 0)) AS point
           FROM generate_series(${from}::timestamp, ${to}::timestamp, '1 day') g(day)
           LEFT JOIN public.website_analytics_site_daily d ON d.site_id = ${site} AND d.day = g.day::date
             AND d.day BETWEEN ${from} AND ${to}
           GROUP BY g.day) t`,
      ),
  }),

  // website_analytics_page_hourly_pkey and website_analytics_visits_started. Half hours, since a zone may have a day on
  // which its clock jumps by one.
  hours: (query) => ({
    args: rangeOf(query),
    text: (site, from, to) =>
      json(
        `json_agg(json_build_object('hour', extract(epoch FROM t.hour), 'pageviews', coalesce(p.pageviews, 0),
           'visits', coalesce(v.visits, 0)) ORDER BY t.hour)`,
        `FROM (${instants(site!, from!, to!)}) r
         CROSS JOIN LATERAL (
           SELECT DISTINCT date_trunc('hour', h.at, r.zone) AS hour
           FROM generate_series(r.began, r.ended - interval '30 minutes', '30 minutes') h(at)) t
         LEFT JOIN (
           SELECT p.hour, sum(p.pageviews) AS pageviews FROM (${instants(site!, from!, to!)}) r
           JOIN public.website_analytics_page_hourly p ON p.site_id = ${site} AND p.hour >= r.began AND p.hour < r.ended
           GROUP BY p.hour) p ON p.hour = t.hour
         LEFT JOIN (
           SELECT date_trunc('hour', v.started_at, r.zone) AS hour, count(*) AS visits FROM (${instants(site!, from!, to!)}) r
           JOIN public.website_analytics_visits v ON v.site_id = ${site} AND v.started_at >= r.began AND v.started_at < r.ended
           GROUP BY 1) v ON v.hour = t.hour`,
      ),
  }),

  // website_analytics_page_daily_pkey.
  pages: (query) => ({
    args: [...rangeOf(query), [query.limit, 'int']],
    text: (site, from, to, limit) =>
      json(
        `coalesce(json_agg(json_build_object('pageId', t.page_id, 'path', t.path, 'pageviews', t.pageviews,
           'visitorDays', t.visitors, 'entries', t.entries, 'exits', t.exits) ORDER BY t.pageviews DESC, t.path, t.page_id), '[]')`,
        `FROM (
           SELECT d.page_key, min(d.page_id) AS page_id, min(d.page_path) AS path, sum(d.pageviews) AS pageviews,
             sum(d.visitors) AS visitors, sum(d.entries) AS entries, sum(d.exits) AS exits
           FROM public.website_analytics_page_daily d WHERE d.site_id = ${site} AND d.day BETWEEN ${from} AND ${to}
           GROUP BY d.page_key ORDER BY 4 DESC, 3, 2 LIMIT ${limit}) t`,
      ),
  }),

  // website_analytics_dimensions_daily_pkey, once for each dimension.
  dimensions: (query) => ({
    args: [...rangeOf(query), [query.limit, 'int'], [JSON.stringify(query.dimensions), 'text::json']],
    text: (site, from, to, limit, dimensions) =>
      json(
        `coalesce(json_object_agg(n.dimension, t.list), '{}')`,
        `FROM json_array_elements_text(${dimensions}) n(dimension)
         CROSS JOIN LATERAL (
           SELECT coalesce(json_agg(json_build_object('value', v.value, 'pageviews', v.pageviews, 'visitorDays', v.visitors,
             'visits', v.visits) ORDER BY v.pageviews DESC, v.value), '[]') AS list
           FROM (
             SELECT d.value, sum(d.pageviews) AS pageviews, sum(d.visitors) AS visitors, sum(d.visits) AS visits
             FROM public.website_analytics_dimensions_daily d
             WHERE d.site_id = ${site} AND d.dimension = n.dimension AND d.day BETWEEN ${from} AND ${to}
             GROUP BY d.value ORDER BY 2 DESC, 1 LIMIT ${limit}) v) t`,
      ),
  }),

  // website_analytics_events_daily_pkey.
  events: (query) => ({
    args: [...rangeOf(query), [query.limit, 'int']],
    text: (site, from, to, limit) =>
      json(
        `coalesce(json_agg(json_build_object('type', t.event_type, 'name', t.event_name, 'events', t.events,
           'visitorDays', t.visitors) ORDER BY t.events DESC, t.event_type, t.event_name), '[]')`,
        `FROM (
           SELECT d.event_type, d.event_name, sum(d.events) AS events, sum(d.visitors) AS visitors
           FROM public.website_analytics_events_daily d WHERE d.site_id = ${site} AND d.day BETWEEN ${from} AND ${to}
           GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT ${limit}) t`,
      ),
  }),

  // website_analytics_visitors_pkey.
  visitors: (query) => ({
    args: rangeOf(query),
    text: (site, from, to) =>
      json(
        `json_object_agg(n.period, t.list)`,
        `FROM (VALUES ('7d', ${to}), ('30d', ${to}),
             ('month', (date_trunc('month', ${to}::timestamp) + interval '1 month - 1 day')::date)) n(period, until)
         CROSS JOIN LATERAL (
           SELECT coalesce(json_agg(json_build_object('endsOn', p.ends_on, 'visitors', p.visitors) ORDER BY p.ends_on), '[]') AS list
           FROM public.website_analytics_visitors p
           WHERE p.site_id = ${site} AND p.period = n.period AND p.ends_on BETWEEN ${from} AND n.until) t`,
      ),
  }),

  // As the view says.
  freshness: ({ siteId }) => ({
    args: [[siteId, 'int']],
    text: (site) =>
      json(
        `json_build_object('rolledThrough', extract(epoch FROM f.rolled_through), 'dirty', f.dirty_hours,
           'sealedBefore', extract(epoch FROM f.sealed_before), 'late', f.late_rows)`,
        `FROM public.website_analytics_freshness f WHERE f.site_id = ${site}`,
      ),
  }),
}
