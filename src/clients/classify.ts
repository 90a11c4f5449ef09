import { STATUS_CODES } from 'node:http'
import type { Answer, NoAnswer } from './http-sender.ts'

/** What an attempt means for the delivery; `error` is for people. */
export type Verdict =
  | { kind: 'delivered' }
  /** The receiver wants no more of these, ever (Standard Webhooks: 410). */
  | { kind: 'gone'; error: string }
  /** `afterMs`: what the receiver asked for, beyond which the schedule decides; null when it asked for nothing. */
  | { kind: 'retry'; error: string; afterMs: number | null }
  /** Will never work as the webhook stands. */
  | { kind: 'failed'; error: string }

const longestAfterMs = 24 * 3_600_000
const asksToWait: readonly number[] = [429, 503]
const redirects: readonly number[] = [300, 301, 302, 303, 305, 307, 308]

/** Sorts an attempt: 2xx delivered, 410 gone, refused or unusable URLs failed, everything else tried again. */
export function classify(result: Answer | NoAnswer, nowMs: number): Verdict {
  if (result.kind === 'none') {
    const { cause, error } = result
    if (cause === 'refused' || cause === 'unusable') return { kind: 'failed', error }
    return { kind: 'retry', error, afterMs: null }
  }
  const { statusCode, retryAfter } = result
  if (statusCode >= 200 && statusCode < 300) return { kind: 'delivered' }
  const status = `answered ${statusCode} ${STATUS_CODES[statusCode] ?? ''}`.trimEnd()
  if (statusCode === 410)
    return { kind: 'gone', error: `${status}: it wants no more events, so the webhook was disabled` }
  const error = redirects.includes(statusCode)
    ? `${status}: redirects are not followed, so the URL must be the final one`
    : status
  return { kind: 'retry', error, afterMs: asksToWait.includes(statusCode) ? retryAfterMs(retryAfter, nowMs) : null }
}

/** Reads `Retry-After` (RFC 9110 §10.2.3: seconds or an HTTP date), at most 24 hours; null when it says nothing usable. */
export function retryAfterMs(value: string | null, nowMs: number): number | null {
  const text = value?.trim() ?? ''
  const waitMs = /^\d+$/.test(text) ? Number(text) * 1_000 : httpDateMs(text) - nowMs
  return waitMs > 0 ? Math.min(waitMs, longestAfterMs) : null
}

/** The three forms of RFC 9110 §5.6.7; the oldest names no zone, and means GMT like the others. */
const httpDates: readonly RegExp[] = [
  /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/,
]

function httpDateMs(text: string): number {
  // Node alone takes "Sunny day 2099" for a date.
  if (!httpDates.some((form) => form.test(text))) return Number.NaN
  return Date.parse(text.endsWith('GMT') ? text : `${text} GMT`)
}
