import { z } from 'zod'
import { analyticsDimensions } from '../analytics-dimensions.ts'
import { AppError } from '../errors.ts'

/** What `readAnalytics` can read, each in one statement. */
export const analyticsParts = [
  'totals',
  'days',
  'hours',
  'pages',
  'dimensions',
  'events',
  'visitors',
  'freshness',
] as const
export type AnalyticsPart = (typeof analyticsParts)[number]

export type AnalyticsDimension = (typeof analyticsDimensions)[number]

/** What is to be read, of which days. */
export interface AnalyticsQuery<Part extends AnalyticsPart = AnalyticsPart> {
  siteId: number
  /** First day, a date in the site's zone: `2026-03-01`. */
  from: string
  /** Last day, itself included; at most 3,660 days, 92 with `hours`. */
  to: string
  /** Rows at most of pages, of events and of each dimension, up to 1,000. Default: 10. */
  limit?: number
  /** Default: all. */
  dimensions?: readonly AnalyticsDimension[]
  /** Count the visitors of a range that is no kept period from its visits, each of which is read. Default: false. */
  countVisitors?: boolean
  /** Default: all but `hours`. */
  parts?: readonly Part[]
}

const dayMs = 86_400_000
const mostDays = 3_660
const mostDaysByHour = 92

const day = z.iso
  .date('Must be a day like 2026-03-01')
  .refine((date) => date >= '1970-01-01', 'Must not be before 1970')
const siteId = 'Must be the id of a site'

const schema = z
  .strictObject({
    siteId: z.int32(siteId).positive(siteId),
    from: day,
    to: day,
    limit: z.int().min(1).max(1_000).default(10),
    dimensions: z.array(z.enum(analyticsDimensions)).default([...analyticsDimensions]),
    countVisitors: z.boolean().default(false),
    parts: z.array(z.enum(analyticsParts)).default(analyticsParts.filter((part) => part !== 'hours')),
  })
  .superRefine(({ from, to, parts }, context) => {
    const days = (Date.parse(to) - Date.parse(from)) / dayMs + 1
    const most = parts.includes('hours') ? mostDaysByHour : mostDays
    if (days < 1) context.addIssue({ code: 'custom', path: ['to'], message: 'Must not be before `from`' })
    if (days > most) context.addIssue({ code: 'custom', path: ['to'], message: `${days} days: at most ${most}` })
  })

export type ParsedAnalyticsQuery = z.output<typeof schema>

/** Fills in the defaults. @throws AppError `invalid`, naming the field */
export function parseAnalyticsQuery(query: AnalyticsQuery): ParsedAnalyticsQuery {
  const parsed = schema.safeParse(query)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue?.path.join('.')
  throw new AppError(
    'invalid',
    `${field ? `${field}: ` : ''}${issue?.message ?? 'invalid query'}`,
    field ? { field } : {},
  )
}
