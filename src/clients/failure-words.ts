import { AppError, messageOf } from '../errors.ts'
import type { ConnectPhase } from './connecting.ts'

/** Why no complete answer came. */
export type FailureCause = 'timeout' | 'network' | 'refused' | 'unusable' | 'aborted'

export interface Failure {
  cause: FailureCause
  /** For people. */
  error: string
  /** What a caller may do something about: there is no such host; the answer is longer than was to be read. */
  why?: 'no-host' | 'too-long'
}

/** How far a request got. `queue`: no connection was being made for it. */
export type Phase = ConnectPhase | 'queue' | 'headers' | 'body'

/** What is said about a failure beside the error itself. */
export interface Circumstance {
  phase: Phase
  target: Pick<URL, 'host' | 'hostname'>
  timeoutMs: number
  /** Of the answer that broke off. */
  statusCode: number
}

const connection: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EPIPE: 'connection reset',
  UND_ERR_SOCKET: 'connection closed',
  EHOSTUNREACH: 'host unreachable',
  EHOSTDOWN: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  ENETDOWN: 'our network is down',
  EADDRNOTAVAIL: 'address not available',
  EACCES: 'not permitted by our own firewall',
  EPERM: 'not permitted by our own firewall',
  EMFILE: 'too many open connections on our side',
  ENFILE: 'too many open connections on our side',
}

const certificate: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  CERT_REVOKED: 'its certificate was revoked',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate chain is self-signed',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate chain is incomplete',
  UNABLE_TO_GET_ISSUER_CERT: 'its certificate chain is incomplete',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'the issuer of its certificate is not trusted',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak TLS on this port',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'it does not speak TLS on this port',
}

const nameUnknown: readonly string[] = ['ENOTFOUND', 'ENODATA', 'EAI_NODATA', 'EAI_NONAME']
const nameSilent: readonly string[] = ['EAI_AGAIN', 'EAI_FAIL', 'ESERVFAIL', 'ETIMEOUT']
const timeouts: readonly string[] = ['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT']
const stopped: readonly string[] = ['UND_ERR_DESTROYED', 'UND_ERR_CLOSED']

export const stoppedEarly: Failure = { cause: 'aborted', error: 'stopped before an answer came' }

/** For what was never sent. */
export function describeRefusal(error: unknown): Failure {
  const isRefused = error instanceof AppError && error.code === 'refused'
  return { cause: isRefused ? 'refused' : 'unusable', error: messageOf(error) }
}

/** Puts what Node and undici throw into words a person understands. */
export function describeFailure(error: Error, circumstance: Circumstance): Failure {
  if (error instanceof AppError) return describeRefusal(error)
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (code === 'UND_ERR_INVALID_ARG') return { cause: 'unusable', error: `can't be sent: ${error.message}` }
  if (stopped.includes(code)) return stoppedEarly
  const cause = timeouts.includes(code) ? 'timeout' : 'network'
  const { phase, statusCode } = circumstance
  if (phase === 'headers')
    return { cause, error: unreadable(code, error) ?? `${inWords(code, error)} before an answer came` }
  if (phase === 'body') {
    const words = unreadable(code, error) ?? `${inWords(code, error)} before the answer was complete`
    return { cause, error: `answered ${statusCode}, but ${words}` }
  }
  const words = unreached(code, error, circumstance.target)
  return nameUnknown.includes(code) ? { cause, error: words, why: 'no-host' } : { cause, error: words }
}

/** What is said when the one deadline passes. */
export function timedOut({ phase, target: { host, hostname }, timeoutMs, statusCode }: Circumstance): Failure {
  const late = `timed out after ${timeoutMs / 1_000} s`
  const words: Readonly<Record<Phase, string>> = {
    queue: `${late} while waiting for a free connection to ${host}`,
    lookup: `${late} while looking up ${hostname}`,
    connect: `${late} while connecting to ${host}`,
    tls: `${late} during the TLS handshake with ${host}`,
    headers: `${late} while waiting for an answer`,
    body: `answered ${statusCode}, but ${late} before the answer was complete`,
  }
  return { cause: 'timeout', error: words[phase] }
}

function unreached(code: string, error: Error, { host, hostname }: Circumstance['target']): string {
  if (nameUnknown.includes(code)) return `host not found: ${hostname}`
  if (nameSilent.includes(code)) return `could not look up ${hostname}: no answer from the name servers`
  const why = certificate[code]
  if (why !== undefined) return `no secure connection to ${host}: ${why}`
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') return `no secure connection to ${host}: TLS failed (${code})`
  if (/certificate/i.test(error.message)) return `no secure connection to ${host}: ${error.message}`
  if (timeouts.includes(code)) return `could not reach ${host}: no answer to the attempts to connect`
  return `could not reach ${host}: ${inWords(code, error)}`
}

/** For an answer that came but can't be read. */
function unreadable(code: string, error: Error): string | null {
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return 'the answer has too many headers'
  if (code === 'UND_ERR_SOCKET' && error.message.startsWith('bad ')) return 'the answer does not fit the request'
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') return 'the answer is not as long as it says'
  return code.startsWith('HPE_') || error.name === 'HTTPParserError' ? 'the answer is not HTTP' : null
}

const inWords = (code: string, error: Error) =>
  connection[code] ?? (code === '' ? messageOf(error) : `${messageOf(error)} (${code})`)
