import { AppError, messageOf } from '../errors.ts'

/** Why no complete answer came. */
export type FailureCause = 'timeout' | 'network' | 'refused' | 'unusable' | 'aborted'

export interface Failure {
  cause: FailureCause
  /** For people. */
  error: string
}

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EPIPE: 'connection reset',
  UND_ERR_SOCKET: 'connection closed',
  EHOSTUNREACH: 'host unreachable',
  EHOSTDOWN: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  EADDRNOTAVAIL: 'address not available',
  EMFILE: 'too many open connections on our side',
  UND_ERR_HEADERS_OVERFLOW: 'the answer has too many headers',
  CERT_HAS_EXPIRED: 'certificate expired',
  CERT_NOT_YET_VALID: 'certificate not valid yet',
  CERT_REVOKED: 'certificate revoked',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'certificate is self-signed',
  SELF_SIGNED_CERT_IN_CHAIN: 'certificate chain is self-signed',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'certificate chain is incomplete',
  UNABLE_TO_GET_ISSUER_CERT: 'certificate chain is incomplete',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'certificate issuer is not trusted',
}

const timeouts: readonly string[] = [
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
]

/** Puts what Node and undici throw into words a person understands. */
export function describeFailure(error: Error, hostname: string, timeoutMs: number): Failure {
  if (error instanceof AppError)
    return { cause: error.code === 'refused' ? 'refused' : 'unusable', error: error.message }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (timeouts.includes(code)) return { cause: 'timeout', error: timedOut(timeoutMs) }
  if (code === 'UND_ERR_INVALID_ARG') return { cause: 'unusable', error: `can't be sent: ${error.message}` }
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') return { cause: 'aborted', error: stoppedEarly }
  return { cause: 'network', error: words[code] ?? unusual(code, error, hostname) }
}

export const timedOut = (timeoutMs: number) => `timed out after ${timeoutMs / 1_000} s`
export const stoppedEarly = 'stopped before an answer came'

function unusual(code: string, error: Error, hostname: string): string {
  if (code === 'ENOTFOUND' || code === 'ENODATA') return `host not found: ${hostname}`
  if (code === 'EAI_AGAIN' || code === 'ESERVFAIL' || code === 'ETIMEOUT') return `host not found for now: ${hostname}`
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `certificate is for another host than ${hostname}`
  if (code.startsWith('HPE_') || error.name === 'HTTPParserError') return 'the answer is not HTTP'
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') return 'no TLS connection possible'
  if (/certificate/i.test(error.message)) return `certificate not accepted: ${error.message}`
  return code === '' ? messageOf(error) : `${messageOf(error)} (${code})`
}
