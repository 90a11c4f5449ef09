import { sql } from 'drizzle-orm'
import { bigint, boolean, date, index, integer, pgTable, primaryKey, text, uuid, varchar } from 'drizzle-orm/pg-core'
import { instant, workerSchema } from './worker-schema.ts'

const count = (name: string) => integer(name).notNull().default(0)
const siteId = () => integer('site_id').notNull()

/** The page of a row: its id where the main app gave one, and the path of its URL; `page_key` is a hash over both. */
const page = () => ({
  pageKey: uuid('page_key').notNull(),
  pageId: integer('page_id'),
  /** At most 1024 characters; longer ones are told apart by the key. */
  pagePath: varchar('page_path', { length: 1024 }).notNull(),
})

/** A site's days, in the site's timezone. */
export const websiteAnalyticsSiteDaily = pgTable(
  'website_analytics_site_daily',
  {
    siteId: siteId(),
    day: date('day').notNull(),
    pageviews: count('pageviews'),
    botPageviews: count('bot_pageviews'),
    visitors: count('visitors'),
    visits: count('visits'),
    bounces: count('bounces'),
    visitSeconds: bigint('visit_seconds', { mode: 'number' }).notNull().default(0),
  },
  (t) => [primaryKey({ name: 'website_analytics_site_daily_pkey', columns: [t.siteId, t.day] })],
)

/** Pages by hour; an hour is the instant at which it begins in the site's timezone. */
export const websiteAnalyticsPageHourly = pgTable(
  'website_analytics_page_hourly',
  {
    siteId: siteId(),
    hour: instant('hour').notNull(),
    ...page(),
    pageviews: count('pageviews'),
    visitors: count('visitors'),
  },
  (t) => [primaryKey({ name: 'website_analytics_page_hourly_pkey', columns: [t.siteId, t.hour, t.pageKey] })],
)

/** Pages by day; entries and exits count on the day on which the visit began. */
export const websiteAnalyticsPageDaily = pgTable(
  'website_analytics_page_daily',
  {
    siteId: siteId(),
    day: date('day').notNull(),
    ...page(),
    pageviews: count('pageviews'),
    visitors: count('visitors'),
    entries: count('entries'),
    exits: count('exits'),
  },
  (t) => [
    primaryKey({ name: 'website_analytics_page_daily_pkey', columns: [t.siteId, t.day, t.pageKey] }),
    index('website_analytics_page_daily_page')
      .on(t.siteId, t.pageId, t.day)
      .where(sql`page_id IS NOT NULL`),
  ],
)

/** What a pageview has besides its page, by day. An empty value is none: each dimension adds up to the whole day. */
export const websiteAnalyticsDimensionsDaily = pgTable(
  'website_analytics_dimensions_daily',
  {
    siteId: siteId(),
    day: date('day').notNull(),
    dimension: varchar('dimension', { length: 20 }).notNull(),
    value: varchar('value', { length: 255 }).notNull(),
    pageviews: count('pageviews'),
    visitors: count('visitors'),
    /** Visits whose first pageview has it. */
    visits: count('visits'),
  },
  (t) => [
    primaryKey({ name: 'website_analytics_dimensions_daily_pkey', columns: [t.siteId, t.dimension, t.day, t.value] }),
  ],
)

/** Custom events by day. */
export const websiteAnalyticsEventsDaily = pgTable(
  'website_analytics_events_daily',
  {
    siteId: siteId(),
    day: date('day').notNull(),
    eventType: varchar('event_type', { length: 100 }).notNull(),
    eventName: varchar('event_name', { length: 255 }).notNull(),
    events: count('events'),
    visitors: count('visitors'),
  },
  (t) => [
    primaryKey({ name: 'website_analytics_events_daily_pkey', columns: [t.siteId, t.day, t.eventType, t.eventName] }),
  ],
)

/** Visits: the pageviews of a session, until 30 minutes pass without one. What tells where it came from is its first one's. */
export const websiteAnalyticsVisits = pgTable(
  'website_analytics_visits',
  {
    siteId: siteId(),
    sessionId: varchar('session_id', { length: 255 }).notNull(),
    startedAt: instant('started_at').notNull(),
    endedAt: instant('ended_at').notNull(),
    seconds: integer('seconds').notNull(),
    pageviews: integer('pageviews').notNull(),
    entryKey: uuid('entry_key').notNull(),
    entryPageId: integer('entry_page_id'),
    entryPath: varchar('entry_path', { length: 1024 }).notNull(),
    exitKey: uuid('exit_key').notNull(),
    exitPageId: integer('exit_page_id'),
    exitPath: varchar('exit_path', { length: 1024 }).notNull(),
    referrerHost: varchar('referrer_host', { length: 255 }).notNull(),
    utmSource: varchar('utm_source', { length: 100 }).notNull(),
    utmMedium: varchar('utm_medium', { length: 100 }).notNull(),
    utmCampaign: varchar('utm_campaign', { length: 100 }).notNull(),
    utmTerm: varchar('utm_term', { length: 100 }).notNull(),
    utmContent: varchar('utm_content', { length: 100 }).notNull(),
    country: varchar('country', { length: 2 }).notNull(),
    deviceType: varchar('device_type', { length: 20 }).notNull(),
    browser: varchar('browser', { length: 50 }).notNull(),
  },
  (t) => [
    primaryKey({ name: 'website_analytics_visits_pkey', columns: [t.siteId, t.sessionId, t.startedAt] }),
    index('website_analytics_visits_started').on(t.siteId, t.startedAt),
    // What was going on at an hour: all that began in the six before it, and these.
    index('website_analytics_visits_long')
      .on(t.siteId, t.startedAt)
      .where(sql`seconds > 21600`),
  ],
)

/** Distinct visitors of the 7 or 30 days, or the calendar month, that end on a day; as far as they are known, where it lies ahead. */
export const websiteAnalyticsVisitors = pgTable(
  'website_analytics_visitors',
  {
    siteId: siteId(),
    period: varchar('period', { length: 5, enum: ['7d', '30d', 'month'] }).notNull(),
    endsOn: date('ends_on').notNull(),
    visitors: count('visitors'),
  },
  (t) => [primaryKey({ name: 'website_analytics_visitors_pkey', columns: [t.siteId, t.period, t.endsOn] })],
)

/** Hours in which pageviews or events were written, changed or removed, append-only: a roll-up takes what it recomputes. */
export const analyticsDirty = workerSchema.table(
  'analytics_dirty',
  {
    siteId: siteId(),
    /** An hour of UTC; `-infinity` for all there are. */
    hour: instant('hour').notNull(),
    id: bigint('id', { mode: 'number' }).generatedAlwaysAsIdentity(),
    kind: text('kind', { enum: ['pageviews', 'events'] }).notNull(),
    /** How many were inserted. */
    rows: integer('rows').notNull().default(0),
    /** When the transaction that wrote them began; null when nobody did, and it is just to be computed again. */
    at: instant('at'),
  },
  (t) => [primaryKey({ name: 'analytics_dirty_pkey', columns: [t.siteId, t.hour, t.id] })],
)

/** Sites that are rolled up; whoever rolls one up holds its row locked. */
export const rollupSites = workerSchema.table('rollup_sites', {
  siteId: integer('site_id').primaryKey(),
  /** `website_sites.timezone` as it was when the site was last rolled up. */
  timezone: text('timezone'),
  /**
   * Raw rows before it may be gone: what began before it, and the rest of that day of the site, is never computed again.
   * Null: nothing is sealed.
   */
  sealedBefore: instant('sealed_before'),
  /** Everything that was committed by then is in. */
  rolledThrough: instant('rolled_through'),
  /** Not rolled up again before. */
  nextAt: instant('next_at').notNull().defaultNow(),
  /** Visitors of periods that end on this day or later are to be computed again; null: of none. */
  visitorsFrom: date('visitors_from'),
  /** They are not computed again before. */
  visitorsNextAt: instant('visitors_next_at').notNull().defaultNow(),
})

/** Rows that came for hours that were sealed already, by day of UTC: they count nowhere else. */
export const analyticsLate = workerSchema.table(
  'analytics_late',
  {
    siteId: siteId(),
    day: date('day').notNull(),
    kind: text('kind', { enum: ['pageviews', 'events'] }).notNull(),
    rows: bigint('rows', { mode: 'number' }).notNull(),
  },
  (t) => [primaryKey({ name: 'analytics_late_pkey', columns: [t.siteId, t.day, t.kind] })],
)

/** Spans of time that someone asked to be computed again; one row per work item, from when its hours were marked. */
export const rollupRanges = workerSchema.table('rollup_ranges', {
  workId: bigint('work_id', { mode: 'number' }).primaryKey(),
  /** Hours that were marked. */
  hours: integer('hours').notNull(),
  markedAt: instant('marked_at').notNull().defaultNow(),
})

/** Which user agents are bots, by MD5. */
export const userAgents = workerSchema.table(
  'user_agents',
  {
    hash: uuid('hash').primaryKey(),
    isBot: boolean('is_bot').notNull(),
    seenOn: date('seen_on').notNull().defaultNow(),
  },
  (t) => [index('user_agents_seen_on').on(t.seenOn)],
)

/** The hosts of referrers, by what stands before their path; empty where there is none. */
export const referrerHosts = workerSchema.table(
  'referrer_hosts',
  {
    origin: varchar('origin', { length: 300 }).primaryKey(),
    host: varchar('host', { length: 255 }).notNull(),
    seenOn: date('seen_on').notNull().defaultNow(),
  },
  (t) => [index('referrer_hosts_seen_on').on(t.seenOn)],
)
