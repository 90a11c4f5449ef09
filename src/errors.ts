/** What went wrong, in terms a caller can act on; mapped to HTTP and exit codes once, at the edge. */
export type ErrorCode =
  | 'bad_request'
  | 'unauthorized'
  | 'forbidden'
  | 'not_found'
  | 'conflict'
  | 'too_large'
  | 'invalid'
  | 'rate_limited'
  | 'unavailable'
  | 'refused'
  | 'misconfigured'

/** The one error class: a code for the machine, a sentence for a person, the field it is about. */
export class AppError extends Error {
  readonly code: ErrorCode
  /** Path of the offending field, e.g. `events.3.siteId`. */
  readonly field: string | undefined

  constructor(code: ErrorCode, message: string, options: { field?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AppError'
    this.code = code
    this.field = options.field
  }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
