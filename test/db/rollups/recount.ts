import { createHash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { isbot } from 'isbot'
import type { Db } from '../../../src/db/client.ts'

interface View {
  site: number
  id: number
  /** Microseconds since 1970. */
  at: number
  page_id: number | null
  page_url: string
  referrer: string | null
  user_agent: string | null
  session_id: string | null
  [dimension: string]: string | number | null
}

type Row = Record<string, string | number | null>
export type Tables = Record<string, string[]>

const own = ['utm_source', 'utm_medium', 'utm_campaign', 'utm_term', 'utm_content', 'country', 'device_type', 'browser']
const hourUs = 3_600e6
const idleUs = 1_800e6
const dayMs = 86_400_000

const formats = new Map<string, Intl.DateTimeFormat>()

/** How far a zone's clock is ahead of UTC, microseconds, by what its calendar shows. */
function offsetOf(at: number, zone: string): number {
  let format = formats.get(zone)
  if (!format) {
    const options = { year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit' } as const
    format = new Intl.DateTimeFormat('en-GB', { timeZone: zone, hourCycle: 'h23', ...options })
    formats.set(zone, format)
  }
  const minute = Math.floor(at / 60e6) * 60_000
  const parts = Object.fromEntries(format.formatToParts(minute).map(({ type, value }) => [type, Number(value)]))
  const { year = 0, month = 0, day = 0, hour = 0, minute: m = 0 } = parts
  return (Date.UTC(year, month - 1, day, hour, m) - minute) * 1_000
}

const dayOf = (at: number, zone: string) => new Date((at + offsetOf(at, zone)) / 1_000).toISOString().slice(0, 10)
const plusDays = (day: string, n: number) => new Date(Date.parse(day) + n * dayMs).toISOString().slice(0, 10)
const monthEnd = (day: string) => new Date(Date.UTC(+day.slice(0, 4), +day.slice(5, 7), 0)).toISOString().slice(0, 10)

function hourOf(at: number, zone: string): number {
  const offset = offsetOf(at, zone)
  return Math.floor((at + offset) / hourUs) * hourUs - offset
}

function pageOf({ page_id, page_url }: View) {
  const path = page_url.replace(/^([a-z][a-z0-9+.-]*:)?\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '') || '/'
  const key = createHash('md5')
    .update(`${page_id ?? ''}:${path}`)
    .digest('hex')
  return { key, page_id, path: [...path].slice(0, 1024).join('') }
}

function hostOf(referrer: string | null): string {
  const host = URL.canParse(referrer ?? '') ? new URL(referrer ?? '').hostname : ''
  return host.length > 255 ? '' : host
}

const dimensionsOf = (view: View) => ({
  referrer_host: hostOf(view.referrer),
  ...Object.fromEntries(own.map((name) => [name, String(view[name] ?? '')])),
})

/** Sums, and sets to be counted, by key. */
function createCounts() {
  const rows = new Map<string, { row: Row; sets: Map<string, Set<string>> }>()
  const at = (key: Row) => {
    const text = JSON.stringify(key)
    let found = rows.get(text)
    if (!found) rows.set(text, (found = { row: { ...key }, sets: new Map() }))
    return found
  }
  return {
    add: (key: Row, name: string, n = 1) => {
      const { row } = at(key)
      row[name] = Number(row[name] ?? 0) + n
    },
    include: (key: Row, name: string, member: string | null) => {
      const { sets } = at(key)
      if (!sets.has(name)) sets.set(name, new Set())
      if (member) sets.get(name)!.add(member)
    },
    list: () =>
      [...rows.values()].map(({ row, sets }) =>
        Object.assign({}, row, Object.fromEntries([...sets].map(([name, set]) => [name, set.size]))),
      ),
  }
}

function visitsOf(views: readonly View[]): View[][] {
  const visits: View[][] = []
  const bySession = new Map<string, View[]>()
  for (const view of views.toSorted((a, b) => a.at - b.at || a.id - b.id)) {
    if (!view.session_id) continue
    const key = `${view.site}:${view.session_id}`
    const visit = bySession.get(key)
    const last = visit?.at(-1)
    if (visit && last && view.at - last.at < idleUs) visit.push(view)
    else {
      const fresh = [view]
      bySession.set(key, fresh)
      visits.push(fresh)
    }
  }
  return visits
}

const canonical = (rows: readonly Row[], columns: readonly string[]) =>
  rows
    .map((row) => columns.map((name) => `${name}=${row[name] ?? (name.includes('page_id') ? '' : 0)}`).join(' '))
    .toSorted()

const columnsOf = {
  site_daily: ['site', 'day', 'pageviews', 'bot_pageviews', 'visitors', 'visits', 'bounces', 'visit_seconds'],
  page_hourly: ['site', 'hour', 'key', 'page_id', 'path', 'pageviews', 'visitors'],
  page_daily: ['site', 'day', 'key', 'page_id', 'path', 'pageviews', 'visitors', 'entries', 'exits'],
  dimensions_daily: ['site', 'day', 'dimension', 'value', 'pageviews', 'visitors', 'visits'],
  events_daily: ['site', 'day', 'type', 'name', 'events', 'visitors'],
  visits: [
    'site',
    'session',
    'started',
    'ended',
    'seconds',
    'pageviews',
    'entry_key',
    'exit_key',
    'entry_path',
    'exit_path',
    'referrer_host',
    ...own,
  ],
  visitors: ['site', 'period', 'ends_on', 'visitors'],
}

/** What every table should hold, counted row by row from the raw tables, without the database's help. */
export async function recount(db: Db): Promise<Tables> {
  const { rows: sites } = await db.execute(sql`SELECT id, timezone FROM website_sites`)
  const zones = new Map(sites.map((row) => [row.id as number, zoneOf(row.timezone as string | null)]))
  const us = sql`(extract(epoch FROM created_at) * 1000000)::float8`
  const sane = sql`site_id IS NOT NULL AND created_at >= '1970-01-02' AND created_at < '2999-01-01'`
  const { rows } = await db.execute(sql`SELECT *, site_id AS site, ${us} AS at FROM website_pageviews WHERE ${sane}`)
  const all = rows as unknown as View[]
  const { rows: events } = await db.execute(sql`SELECT *, ${us} AS at FROM website_events WHERE ${sane}`)
  const counts = Object.fromEntries(Object.keys(columnsOf).map((name) => [name, createCounts()])) as Record<
    keyof typeof columnsOf,
    ReturnType<typeof createCounts>
  >
  const zone = (site: number) => zones.get(site) ?? 'UTC'
  const isBot = (view: View) => isbot(view.user_agent)

  for (const view of all) {
    const { site, at, session_id: session } = view
    const day = dayOf(at, zone(site))
    if (isBot(view)) {
      counts.site_daily.add({ site, day }, 'bot_pageviews')
      continue
    }
    counts.site_daily.add({ site, day }, 'pageviews')
    counts.site_daily.include({ site, day }, 'visitors', session)
    const page = pageOf(view)
    const hour = hourOf(at, zone(site))
    counts.page_hourly.add({ site, hour, ...page }, 'pageviews')
    counts.page_hourly.include({ site, hour, ...page }, 'visitors', session)
    counts.page_daily.add({ site, day, ...page }, 'pageviews')
    counts.page_daily.include({ site, day, ...page }, 'visitors', session)
    for (const [dimension, value] of Object.entries(dimensionsOf(view))) {
      counts.dimensions_daily.add({ site, day, dimension, value }, 'pageviews')
      counts.dimensions_daily.include({ site, day, dimension, value }, 'visitors', session)
    }
    if (!session) continue
    for (let n = 0; n < 30; n++) {
      if (n < 7) counts.visitors.include({ site, period: '7d', ends_on: plusDays(day, n) }, 'visitors', session)
      counts.visitors.include({ site, period: '30d', ends_on: plusDays(day, n) }, 'visitors', session)
    }
    counts.visitors.include({ site, period: 'month', ends_on: monthEnd(day) }, 'visitors', session)
  }
  for (const visit of visitsOf(all.filter((view) => !isBot(view)))) {
    const [first, last] = [visit[0]!, visit.at(-1)!]
    const { site } = first
    const day = dayOf(first.at, zone(site))
    const seconds = Math.floor((last.at - first.at) / 1e6)
    const [entry, exit] = [pageOf(first), pageOf(last)]
    counts.site_daily.add({ site, day }, 'visits')
    if (visit.length === 1) counts.site_daily.add({ site, day }, 'bounces')
    counts.site_daily.add({ site, day }, 'visit_seconds', seconds)
    counts.page_daily.add({ site, day, ...entry }, 'entries')
    counts.page_daily.add({ site, day, ...exit }, 'exits')
    for (const [dimension, value] of Object.entries(dimensionsOf(first)))
      counts.dimensions_daily.add({ site, day, dimension, value }, 'visits')
    const key = { site, session: first.session_id, started: first.at, ended: last.at, seconds, pageviews: visit.length }
    const pages = { entry_key: entry.key, exit_key: exit.key, entry_path: entry.path, exit_path: exit.path }
    counts.visits.add({ ...key, ...pages, ...dimensionsOf(first) }, 'n')
  }
  for (const event of events) {
    const { site_id, event_type, event_name } = event as { site_id: number; event_type: string; event_name: string }
    const day = dayOf(event.at as number, zone(site_id))
    const key = { site: site_id, day, type: event_type, name: event_name }
    counts.events_daily.add(key, 'events')
    counts.events_daily.include(key, 'visitors', event.session_id as string | null)
  }
  return Object.fromEntries(
    Object.entries(columnsOf).map(([name, columns]) => [
      name,
      canonical(counts[name as keyof typeof columnsOf].list(), columns),
    ]),
  )
}

function zoneOf(zone: string | null): string {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: zone || 'UTC' }).resolvedOptions().timeZone
  } catch {
    return 'UTC'
  }
}

/** What the rollups hold, in the same words. */
export async function readRollups(db: Db): Promise<Tables> {
  const us = (column: string) => sql.raw(`(extract(epoch FROM ${column}) * 1000000)::float8`)
  const key = (column: string) => sql.raw(`replace(${column}::text, '-', '')`)
  const read: Record<keyof typeof columnsOf, ReturnType<typeof sql>> = {
    site_daily: sql`day::text AS day`,
    page_hourly: sql`${us('hour')} AS hour, ${key('page_key')} AS key, page_path AS path`,
    page_daily: sql`day::text AS day, ${key('page_key')} AS key, page_path AS path`,
    dimensions_daily: sql`day::text AS day`,
    events_daily: sql`day::text AS day, event_type AS type, event_name AS name`,
    visits: sql`session_id AS session, ${us('started_at')} AS started, ${us('ended_at')} AS ended,
      ${key('entry_key')} AS entry_key, ${key('exit_key')} AS exit_key`,
    visitors: sql`ends_on::text AS ends_on`,
  }
  const tables: Tables = {}
  for (const [name, columns] of Object.entries(columnsOf)) {
    const { rows } = await db.execute(
      sql`SELECT *, site_id AS site, ${read[name as keyof typeof columnsOf]} FROM ${sql.identifier(`website_analytics_${name}`)}`,
    )
    tables[name] = canonical(rows as Row[], columns)
  }
  return tables
}
