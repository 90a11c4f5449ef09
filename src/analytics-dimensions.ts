/** What pageviews and visits are told apart by, as `website_analytics_dimensions_daily` names it. */
export const analyticsDimensions = [
  'referrer_host',
  'utm_source',
  'utm_medium',
  'utm_campaign',
  'utm_term',
  'utm_content',
  'country',
  'device_type',
  'browser',
] as const
