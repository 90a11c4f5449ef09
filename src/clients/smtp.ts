import { connect, type Socket } from 'node:net'
import { createTransport } from 'nodemailer'
import { AppError, messageOf } from '../errors.ts'
import type { Guard } from './guard.ts'

/** Where mail is handed over. */
export interface MailServer {
  host: string
  port: number
  /** TLS from the first byte; else STARTTLS where the server offers it. */
  secure: boolean
  /** Without TLS nothing is sent. */
  requireTls: boolean
  auth?: { user: string; pass: string }
  /** Whether it stands in a row that users can edit, so that its address must pass the outbound guard. */
  isGuarded: boolean
}

/** A mail; every address and header is checked by whoever makes it. */
export interface Mail {
  /** An address, or `Name <address>`. */
  from: string
  to: readonly string[]
  replyTo?: string | undefined
  subject: string
  text: string
  html: string
  /** With its angle brackets. */
  messageId: string
}

/** How handing over a mail ended; `error` is for people. */
export type MailResult =
  | { kind: 'sent'; accepted: string[]; rejected: string[] }
  /** Not sent, as far as is known: a server that takes a mail and hangs up before saying so leaves that open. */
  | { kind: 'unsent'; error: string }
  /** The server wants none of it, for good. */
  | { kind: 'rejected'; error: string }
  /** The server may not be called. */
  | { kind: 'unusable'; error: string }

export interface Mailer {
  /** Hands a mail over, once. Never rejects. */
  send(server: MailServer, mail: Mail, signal: AbortSignal): Promise<MailResult>
}

export interface MailerOptions {
  guard: Guard
  /** One deadline over everything from the lookup to the last answer. Default: 60000. */
  timeoutMs?: number
  /** PEM certificates trusted instead of the system's. Default: the system's. */
  ca?: string
}

/** Reads `smtp://user:password@host:587` or `smtps://…`; `?requireTLS=true` refuses servers without STARTTLS. */
export function readSmtpUrl(text: string): MailServer {
  const url = new URL(text)
  const secure = url.protocol === 'smtps:'
  const user = decodeURIComponent(url.username)
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? (secure ? 465 : 587) : Number(url.port),
    secure,
    requireTls: url.searchParams.get('requireTLS') === 'true',
    ...(user !== '' && { auth: { user, pass: decodeURIComponent(url.password) } }),
    isGuarded: false,
  }
}

/** Hands mails over to SMTP servers, each over a connection of its own. */
export function createMailer({ guard, timeoutMs = 60_000, ca }: MailerOptions): Mailer {
  const dialGuarded = guard.connector({ timeoutMs })

  function dial({ host, port, isGuarded }: MailServer): Promise<Socket> {
    return new Promise((resolve, reject) => {
      if (!isGuarded) {
        const socket = connect({ host, port })
        socket.once('error', reject).once('connect', () => resolve(socket.off('error', reject)))
        return
      }
      const target = { hostname: host.includes(':') ? `[${host}]` : host, host: `${host}:${port}`, port: String(port) }
      dialGuarded({ ...target, protocol: 'http:' }, (error, socket) =>
        error ? reject(error) : resolve(socket as Socket),
      )
    })
  }

  async function send(server: MailServer, mail: Mail, signal: AbortSignal): Promise<MailResult> {
    const { host, port, secure, requireTls, auth } = server
    const deadline = AbortSignal.timeout(timeoutMs)
    let refusal: string | undefined
    const transport = createTransport({
      host,
      port,
      secure,
      requireTLS: requireTls,
      ...(auth && { auth }),
      ...(ca !== undefined && { tls: { ca } }),
      connectionTimeout: timeoutMs,
      greetingTimeout: timeoutMs,
      socketTimeout: timeoutMs,
      disableFileAccess: true,
      disableUrlAccess: true,
      getSocket(_: unknown, callback: (error: Error | null, found?: { connection: Socket }) => void) {
        dial(server).then(
          (connection) => callback(null, { connection }),
          (error: Error) => {
            if (error instanceof AppError) refusal = error.message
            callback(error)
          },
        )
      },
    })
    try {
      const { to, ...rest } = mail
      const info = await transport.sendMail({ ...rest, to: [...to], signal: AbortSignal.any([signal, deadline]) })
      return { kind: 'sent', accepted: info.accepted.map(String), rejected: info.rejected.map(String) }
    } catch (error) {
      if (refusal !== undefined) return { kind: 'unusable', error: refusal }
      if (deadline.aborted)
        return { kind: 'unsent', error: `timed out after ${timeoutMs / 1_000} s with ${host}:${port}` }
      const { code = '', responseCode = 0 } = error as { code?: string; responseCode?: number }
      const words = `${host}:${port}: ${messageOf(error)}`.replaceAll(/\p{Cc}+/gu, ' ').slice(0, 1_000)
      const isFinal = responseCode >= 500 && (code === 'EENVELOPE' || code === 'EMESSAGE')
      return { kind: isFinal ? 'rejected' : 'unsent', error: words }
    } finally {
      transport.close()
    }
  }

  return { send }
}
