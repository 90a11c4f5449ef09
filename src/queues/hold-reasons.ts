/** Why items are held by something that may let them go again; the SQL functions use the same words. */
export const holdReasons = {
  domainOff: 'domain off',
  paused: 'paused',
  webhookDisabled: 'webhook disabled',
} as const
