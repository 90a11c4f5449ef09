import type { Db } from '../db/client.ts'
import { clearFault, noteFault } from '../db/queries/integration-faults.ts'
import type { IntegrationType, Submission } from '../db/queries/submissions.ts'
import { formHoldReason, holdReasons } from '../queues/hold-reasons.ts'
import type { Outcome } from './contract.ts'

type Held = Outcome & { kind: 'held' }

/** Why nothing may be done for a submission now: its form or its site is switched off or deleted. */
export function closedBy({ closed, formId }: Submission): Held | undefined {
  switch (closed) {
    case null:
      return undefined
    case 'site deleted':
      return { kind: 'held', reason: holdReasons.siteDeleted }
    case 'site inactive':
      return { kind: 'held', reason: holdReasons.siteInactive }
    case 'form deleted':
      return { kind: 'held', reason: formHoldReason(formId, 'deleted') }
    case 'form inactive':
      return { kind: 'held', reason: formHoldReason(formId, 'inactive') }
  }
}

const reasons = {
  crm: { missing: holdReasons.crmMissing, unusable: holdReasons.crmUnusable },
  email: { missing: holdReasons.mailMissing, unusable: holdReasons.mailUnusable },
} as const

/** Holds a submission's work until its site's integrations of a type are others than these; says why for a person. */
export async function holdForIntegration(
  db: Db,
  { siteId, seen }: Submission,
  type: IntegrationType,
  integrationId: number | null,
  error: string,
): Promise<Held> {
  await noteFault(db, { siteId, type, integrationId, error, seen })
  const reason = integrationId === null ? reasons[type].missing : reasons[type].unusable
  return { kind: 'held', reason, error }
}

/** Lets everything go on that was held for an integration that works now. */
export async function integrationWorks(db: Db, submission: Submission, type: IntegrationType): Promise<void> {
  if (submission.isFaulty) await clearFault(db, submission.siteId, type)
}
