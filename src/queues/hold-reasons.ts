/** Why items are held by something that may let them go again; the SQL functions use the same words. */
export const holdReasons = {
  domainOff: 'domain off',
  paused: 'paused',
  webhookDisabled: 'webhook disabled',
  siteInactive: 'site inactive',
  siteInMaintenance: 'site in maintenance',
  siteDeleted: 'site deleted',
  crmMissing: 'no CRM integration',
  crmUnusable: 'CRM integration unusable',
  mailMissing: 'no mail server',
  mailUnusable: 'mail server unusable',
} as const

/** Why what was sent through a form waits. */
export const formHoldReason = (formId: number, state: 'inactive' | 'deleted') => `form ${formId} ${state}`

/** How the reason begins for a page of which another version was asked for. */
export const versionMismatch = 'version mismatch'
