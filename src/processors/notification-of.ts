import type { Mail } from '../clients/smtp.ts'
import type { Submission } from '../db/queries/submissions.ts'
import { valueOf } from './lead-of.ts'
import { boundedFields, emailOf, textOf } from './submission-text.ts'

const mostRecipients = 50

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escaped = (text: string) => text.replaceAll(/[&<>"']/g, (character) => escapes[character] ?? '')

/** The addresses of a form that can be written to, each once, and those that can't. */
export function recipientsOf({ notificationEmails }: Submission): { valid: string[]; invalid: string[] } {
  const given = notificationEmails.filter((text) => typeof text === 'string' && text.trim() !== '')
  const valid = given.flatMap((text) => emailOf(text) ?? [])
  return {
    valid: valid
      .filter((address, index) => valid.findIndex((other) => other.toLowerCase() === address.toLowerCase()) === index)
      .slice(0, mostRecipients),
    invalid: given.filter((text) => emailOf(text) === undefined),
  }
}

/** What people are told of a submission; nothing that was submitted can become a header or markup. */
export function notificationOf(submission: Submission): Pick<Mail, 'subject' | 'text' | 'html' | 'replyTo'> {
  const form = textOf(submission.form, 150) ?? `form ${submission.formId}`
  const site = textOf(submission.site, 100)
  const heading = `New submission: ${form}${site ? ` (${site})` : ''}`
  const fields = Object.entries(boundedFields(submission.data)).map(([name, value]) => ({
    name,
    value: typeof value === 'string' ? value : JSON.stringify(value, null, 2),
  }))
  const lines = fields.map(({ name, value }) => `${name}: ${value.includes('\n') ? `\n${value}` : value}`)
  const rows = fields.map(
    ({ name, value }) =>
      `<tr><th align="left" valign="top">${escaped(name)}</th><td style="white-space:pre-wrap">${escaped(value)}</td></tr>`,
  )
  return {
    subject: heading,
    text: `${heading}\n\n${lines.join('\n')}\n\nSubmission ${submission.submissionId}\n`,
    html: `<!doctype html><html><body><h1>${escaped(heading)}</h1><table>${rows.join('')}</table><p>Submission ${submission.submissionId}</p></body></html>`,
    replyTo: emailOf(valueOf(submission, 'email')),
  }
}
