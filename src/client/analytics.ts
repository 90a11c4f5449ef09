import { AppError } from '../errors.ts'
import {
  parseAnalyticsQuery,
  type AnalyticsDimension,
  type AnalyticsPart,
  type AnalyticsQuery,
} from './analytics-query.ts'
import { analyticsStatements, siteStatement, type AnalyticsStatement } from './analytics-statements.ts'
import { selectValue, type DrizzleHandle, type PgHandle } from './handle.ts'

interface Counts {
  pageviews: number
  botPageviews: number
  visits: number
  /** Visits of one page view. */
  bounces: number
  /** How long they took together, from the first page view of each to its last. */
  visitSeconds: number
}

/** Who came on a day counts as one; who came on two days, as two. */
interface VisitorDays {
  visitorDays: number
}

/** What `readAnalytics` finds, by part. */
export interface AnalyticsParts {
  /** `visitors`: distinct ones of the range; null where they aren't kept (a day, 7 or 30 days, a month are) nor counted. */
  totals: Counts & { visitors: number | null }
  /** Every day of the range, also without visitors. */
  days: (Counts & { day: string; visitors: number })[]
  /** Every hour of the range, by the instant it begins at; `visits` are those that began in it. */
  hours: { hour: Date; pageviews: number; visits: number }[]
  /** The pages with the most views; `pageId` is null where the main app gave none. */
  pages: ({
    pageId: number | null
    path: string
    pageviews: number
    entries: number
    exits: number
  } & VisitorDays)[]
  /** The values with the most views; an empty one stands for those without any. */
  dimensions: Partial<
    Record<AnalyticsDimension, ({ value: string; pageviews: number; visits: number } & VisitorDays)[]>
  >
  /** The main app's own events, the most frequent first. */
  events: ({ type: string; name: string; events: number } & VisitorDays)[]
  /** Distinct visitors of the 7 and 30 days, and the months, that end in the range; of the current month so far, too. */
  visitors: Record<'7d' | '30d' | 'month', { endsOn: string; visitors: number }[]>
  freshness: {
    /** What was committed by then is counted; null: nothing yet. */
    rolledThrough: Date | null
    /** Hours that are to be computed anew; 10,000 for more. */
    dirty: number
    /** What began before it stays as it is, since its page views are archived; null: nothing is. */
    sealedBefore: Date | null
    /** Rows that came too late to be counted. */
    late: number
  }
}

/** The days that were read, and what was asked for of them. */
export type Analytics<Part extends AnalyticsPart = AnalyticsPart> = {
  siteId: number
  timezone: string
  from: string
  to: string
} & Pick<AnalyticsParts, Part>

const instantOf = (seconds: unknown) => (seconds === null ? null : new Date(Number(seconds) * 1_000))

/** What JSON can't say. */
const revive: { [Part in AnalyticsPart]?: (found: never) => AnalyticsParts[Part] } = {
  hours: (hours: { hour: number; pageviews: number; visits: number }[]) =>
    hours.map((point) => ({ ...point, hour: new Date(point.hour * 1_000) })),
  freshness: (found: Record<keyof AnalyticsParts['freshness'], number | null>) => ({
    rolledThrough: instantOf(found.rolledThrough),
    dirty: found.dirty ?? 0,
    sealedBefore: instantOf(found.sealedBefore),
    late: found.late ?? 0,
  }),
}

/**
 * Reads what a dashboard shows of a site, on a connection of the main app: one indexed statement a part, in turn. They are
 * of one moment inside a REPEATABLE READ transaction.
 * @throws AppError `invalid`, naming the field, before anything is read; `not_found` where there is no such site;
 * `forbidden` where the role may not read website_pageviews
 */
export async function readAnalytics<Part extends AnalyticsPart = Exclude<AnalyticsPart, 'hours'>>(
  db: DrizzleHandle | PgHandle,
  query: AnalyticsQuery<Part>,
): Promise<Analytics<Part>> {
  const parsed = parseAnalyticsQuery(query)
  const read = async ({ args, text }: AnalyticsStatement) => {
    const value = await selectValue(db, args, text)
    return JSON.parse(String(value ?? null)) as unknown
  }
  const { siteId, from, to } = parsed
  const site = (await read(siteStatement(parsed))) as { timezone: string; mayRead: boolean } | null
  if (!site) throw new AppError('not_found', `There is no site ${siteId}`, { field: 'siteId' })
  // Else every part would look empty.
  if (!site.mayRead)
    throw new AppError('forbidden', 'This role may not read website_pageviews, nor what is counted of them')
  const parts: Partial<AnalyticsParts> = {}
  for (const part of new Set(parsed.parts)) {
    const found = (await read(analyticsStatements[part](parsed))) as never
    Object.assign(parts, { [part]: revive[part]?.(found) ?? found })
  }
  return { siteId, timezone: site.timezone, from, to, ...parts } as Analytics<Part>
}
