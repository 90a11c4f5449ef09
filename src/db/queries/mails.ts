import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'

/** How far the notification of a submission has come. */
export interface MailRow {
  attempts: number
  isSent: boolean
}

/** Reads how far a notification has come; undefined before its first attempt. */
export async function findMail(db: Db, submissionId: number): Promise<MailRow | undefined> {
  // Primary key.
  const { rows } = await db.execute(
    sql`SELECT m.attempts, m.sent_at IS NOT NULL AS "isSent" FROM website_worker.submission_mails m
        WHERE m.submission_id = ${submissionId}`,
  )
  return rows[0] as MailRow | undefined
}

/** Writes down that a mail is about to be sent; resolves with its Message-ID, undefined when another run was first. */
export async function beginMail(
  db: Db,
  { submissionId, messageId, attemptsSeen }: { submissionId: number; messageId: string; attemptsSeen: number },
): Promise<string | undefined> {
  // Primary key.
  const { rows } = await db.execute(
    sql`INSERT INTO website_worker.submission_mails AS m (submission_id, message_id, attempts)
        VALUES (${submissionId}, ${messageId}, 1)
        ON CONFLICT (submission_id) DO UPDATE SET attempts = m.attempts + 1, attempted_at = now()
        WHERE m.attempts = ${attemptsSeen} AND m.sent_at IS NULL
        RETURNING m.message_id AS "messageId"`,
  )
  return rows[0]?.messageId as string | undefined
}

/** Writes down which notifications were sent. */
export async function recordMails(tx: Tx, submissionIds: readonly number[]): Promise<void> {
  // Primary key.
  await tx.execute(
    sql`UPDATE website_worker.submission_mails SET sent_at = coalesce(sent_at, now())
        WHERE submission_id = ANY (${sql.param(submissionIds)}::int[])`,
  )
}
