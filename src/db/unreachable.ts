import { pgErrorOf } from './queries/pg-error.ts'

const networkCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
])

// Classes 08 (connection) and 53 (resources), administrator's shutdown, a standby that can't write, and conflicts
// between transactions that only need to be asked again.
const sqlStates = /^(08...|53...|57P0[1-5]|25006|40001|40P01)$/

// What pg and pg-pool say without a code.
const messages =
  /^(Connection terminated|Query read timeout|Client has encountered a connection error|timeout expired|timeout exceeded when trying to connect|Cannot use a pool after calling end)/

/** True when the database could not be asked, so that the same request may work a little later. */
export function isUnreachable(error: unknown): boolean {
  let cause = error
  for (let depth = 0; depth < 5 && cause instanceof Error; depth++) {
    const { code } = cause as { code?: unknown }
    if (typeof code === 'string' && (networkCodes.has(code) || sqlStates.test(code))) return true
    if (messages.test(cause.message)) return true
    cause = cause.cause
  }
  return false
}

// Canceled by a timeout, or a lock that someone else held too long.
const waitedTooLong: readonly (string | undefined)[] = ['57014', '55P03']

/** Whether the same statement may work a little later, as it stands. */
export const mayPass = (error: unknown) => isUnreachable(error) || waitedTooLong.includes(pgErrorOf(error)?.code)
