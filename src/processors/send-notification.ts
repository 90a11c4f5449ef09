import type { Credentials } from '../clients/credentials.ts'
import { integrationName } from '../clients/crm/index.ts'
import { openMailServer, type MailSetup } from '../clients/mail-integration.ts'
import type { Mailer, MailServer } from '../clients/smtp.ts'
import type { Db } from '../db/client.ts'
import { beginMail, findMail, recordMails } from '../db/queries/mails.ts'
import { findSubmission, type Submission } from '../db/queries/submissions.ts'
import { AppError } from '../errors.ts'
import type { SendNotificationPayload } from '../queues/send-notification.ts'
import type { Outcome, Processor } from './contract.ts'
import { notificationOf, recipientsOf } from './notification-of.ts'
import { closedBy, holdForIntegration, integrationWorks } from './submission-holds.ts'

export interface MailSettings {
  mailer: Mailer
  credentials: Credentials
  /** For sites without a mail server of their own. Default: none. */
  server?: MailServer
  /** Default: none. */
  from?: string
}

export interface SendNotificationDeps {
  db: Db
  mail: MailSettings
}

const skipped = (why: string): Outcome<true> => ({ kind: 'done', result: { skipped: why } })

/** Mails a submission once; trouble with mail never touches its lead, which is another work item. */
export const sendNotificationProcessor: Processor<SendNotificationPayload, SendNotificationDeps, undefined, true> = {
  async process({ submissionId }, { db, mail }, { signal }) {
    const submission = await findSubmission(db, submissionId, 'email')
    if (!submission) return { kind: 'failed', error: 'the submission was deleted, with or without its form' }
    const before = await findMail(db, submissionId)
    if (before?.isSent) return skipped('it was sent already')
    if (submission.status === 'archived') return skipped('the submission is archived')
    if (!submission.emailNotifications) return skipped('the form sends no notifications')
    if (submission.siteId === null) return { kind: 'failed', error: 'its form belongs to no site' }
    const closed = closedBy(submission)
    if (closed) return closed
    const { valid: to, invalid } = recipientsOf(submission)
    if (to.length === 0 && invalid.length === 0) return skipped('the form has no addresses to notify')
    if (to.length === 0) return { kind: 'failed', error: `no address of the form is valid: ${shown(invalid)}` }

    const setup = await setUp(db, mail, submission)
    if ('kind' in setup) return setup
    const { server, from } = setup
    const domain = /@([^\s<>@]+?)>?$/.exec(from)?.[1] ?? 'localhost'
    const messageId = await beginMail(db, {
      submissionId,
      messageId: `<web-submission-${submissionId}@${domain}>`,
      attemptsSeen: before?.attempts ?? 0,
    })
    if (messageId === undefined) return { kind: 'retry', error: 'another run is at it' }
    const sent = await mail.mailer.send(server, { ...notificationOf(submission), from, to, messageId }, signal)
    const named = (error: string) =>
      mail.credentials.redact(
        server.isGuarded && submission.integration ? `${integrationName(submission.integration)}: ${error}` : error,
      )
    if (sent.kind === 'unusable')
      return holdForIntegration(db, submission, 'email', submission.integration?.id ?? null, named(sent.error))
    await integrationWorks(db, submission, 'email')
    if (sent.kind === 'unsent') return { kind: 'retry', error: named(sent.error) }
    if (sent.kind === 'rejected') return { kind: 'failed', error: named(sent.error) }
    const rejected = [...sent.rejected, ...invalid]
    return {
      kind: 'done',
      result: {
        to: sent.accepted,
        ...(rejected.length > 0 && { rejected: rejected.map((text) => text.slice(0, 254)) }),
      },
      record: true,
    }
  },

  async settle(tx, runs) {
    await recordMails(
      tx,
      runs.map((run) => run.payload.submissionId),
    )
  },
}

const shown = (addresses: readonly string[]) => JSON.stringify(addresses.map((text) => text.slice(0, 100)).slice(0, 5))

/** The site's own mail server, else the installation's; the item is held when there is none that can be used. */
async function setUp(
  db: Db,
  mail: MailSettings,
  submission: Submission,
): Promise<(MailSetup & { from: string }) | Outcome<never>> {
  const { integration } = submission
  const hold = (error: string) => holdForIntegration(db, submission, 'email', integration?.id ?? null, error)
  let setup: MailSetup | undefined
  try {
    if (integration) setup = openMailServer(integration, mail.credentials)
    else if (mail.server) setup = { server: mail.server, from: undefined }
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return hold(error.message)
  }
  if (!setup) return hold('the site has no active integration of type email, and SMTP_URL is not set')
  const from = setup.from ?? mail.from
  if (from === undefined)
    return hold('no sender: MAIL_FROM is not set, nor config.from of an integration of type email')
  return { server: setup.server, from }
}
