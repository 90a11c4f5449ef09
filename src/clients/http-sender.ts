import { Agent, type Dispatcher } from 'undici'
import { onceAborted } from './abort-listeners.ts'
import { watchConnecting } from './connecting.ts'
import {
  describeFailure,
  describeRefusal,
  stoppedEarly,
  timedOut,
  type Circumstance,
  type Failure,
  type FailureCause,
} from './failure-words.ts'
import type { Guard } from './guard.ts'
import { storableText } from './response-text.ts'
import { basicAuth } from './basic-auth.ts'

export interface SenderOptions {
  guard: Guard
  /** One deadline over DNS, connect, TLS, headers and body. */
  timeoutMs: number
  /** `website-worker/<version>`. Default: `website-worker`. */
  userAgent?: string
  /** Connections to one origin at once. Default: no limit. */
  maxConnectionsPerOrigin?: number
  /** An older connection gets no new request. Default: 60000. */
  maxConnectionAgeMs?: number
  /** Bytes of an answer read before the connection is dropped. Default: 65536. */
  maxReadBytes?: number
  /** Bytes of an answer kept. Default: 16384. */
  maxStoredBytes?: number
  /** PEM certificates trusted instead of the system's. Default: the system's. */
  ca?: string
}

export interface PostRequest {
  url: string
  /** Names and values in turn, already vetted; `content-type` and `user-agent` are the sender's. */
  headers: readonly string[]
  body: Buffer
  /** Gives up early, e.g. when the process stops. */
  signal?: AbortSignal
}

/** The receiver answered. */
export interface Answer {
  kind: 'answer'
  statusCode: number
  retryAfter: string | null
  /** Valid UTF-8 without NUL, at most `maxStoredBytes`; null when there was none. */
  bodyText: string | null
  durationMs: number
}

/** No complete answer; `error` is for people. */
export interface NoAnswer {
  kind: 'none'
  /** `refused`: by the guard; `unusable`: the URL or a header; `aborted`: by the signal or `close`. */
  cause: FailureCause
  error: string
  durationMs: number
}

export interface Sender {
  /** POSTs once, following no redirect; never rejects. */
  post(request: PostRequest): Promise<Answer | NoAnswer>
  /** Drops every connection; what is still under way ends as `aborted`. */
  close(): Promise<void>
}

/** Posts JSON over kept-alive connections that the guard opened. */
export function createSender(options: SenderOptions): Sender {
  const { guard, timeoutMs, maxReadBytes = 65_536, maxStoredBytes = 16_384, maxConnectionAgeMs = 60_000 } = options
  const connecting = watchConnecting(
    guard.connector({ timeoutMs, ...(options.ca === undefined ? {} : { ca: options.ca }) }),
  )
  const agent = new Agent({
    connect: connecting.connect,
    // A receiver that moves to another address is followed even while its old one is kept busy.
    clientTtl: maxConnectionAgeMs,
    connections: options.maxConnectionsPerOrigin ?? null,
    pipelining: 1,
    // The one deadline covers both.
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  const ours = ['content-type', 'application/json', 'user-agent', options.userAgent ?? 'website-worker']

  function post({ url, headers, body, signal }: PostRequest): Promise<Answer | NoAnswer> {
    const startedAt = performance.now()
    const durationMs = () => Math.round(performance.now() - startedAt)

    let target: URL
    try {
      target = guard.checkUrl(url)
    } catch (error) {
      return Promise.resolve({ kind: 'none', ...describeRefusal(error), durationMs: durationMs() })
    }
    if (signal?.aborted) return Promise.resolve({ kind: 'none', ...stoppedEarly, durationMs: 0 })

    return new Promise((resolve) => {
      let controller: Dispatcher.DispatchController | undefined
      let stopped: Error | undefined
      let statusCode = 0
      let retryAfter: string | null = null
      let contentType: string | undefined
      let chunks: Buffer[] | undefined
      let readBytes = 0

      const timer = setTimeout(() => stop(timedOut(circumstance())), timeoutMs)
      const connected = connecting.waitFor(target.origin)
      const deaf = signal && onceAborted(signal, () => stop(stoppedEarly))

      function circumstance(): Circumstance {
        const before = () => connecting.phaseOf(target.origin) ?? 'queue'
        const phase = statusCode !== 0 ? 'body' : controller ? 'headers' : before()
        return { phase, target, timeoutMs, statusCode }
      }

      function settle(result: Answer | NoAnswer): void {
        clearTimeout(timer)
        connected()
        deaf?.()
        resolve(result)
      }
      function answer(): void {
        const bodyText = chunks ? storableText(joined(chunks), maxStoredBytes, contentType) : null
        settle({ kind: 'answer', statusCode, retryAfter, bodyText, durationMs: durationMs() })
      }
      function noAnswer({ cause, error }: Failure): void {
        // A refusal is one however its body ends; an acceptance counts once it is complete, which 204 is without a body.
        if (statusCode >= 300 || statusCode === 204) return answer()
        settle({ kind: 'none', cause, error, durationMs: durationMs() })
      }
      function stop(failure: Failure): void {
        noAnswer(failure)
        abandon(failure.error)
      }
      function abandon(why: string): void {
        stopped = new Error(why)
        // Before `onRequestStart` there is no controller yet: the request is dropped there, unsent.
        controller?.abort(stopped)
      }

      const handler: Dispatcher.DispatchHandler = {
        onRequestStart(started) {
          controller = started
          connected()
          if (stopped) started.abort(stopped)
        },
        onResponseStart(_, status, responseHeaders) {
          if (status < 200) return
          statusCode = status
          retryAfter = firstOf(responseHeaders['retry-after'])
          contentType = firstOf(responseHeaders['content-type']) ?? undefined
        },
        onResponseData(_, chunk) {
          if (readBytes < maxStoredBytes) (chunks ??= []).push(chunk)
          readBytes += chunk.length
          if (readBytes < maxReadBytes || stopped) return
          answer()
          abandon('read enough')
        },
        onResponseEnd: answer,
        onResponseError(_, error) {
          if (!stopped) noAnswer(describeFailure(error, circumstance()))
        },
      }
      const allHeaders = [...ours, ...headers, ...basicAuth(target, headers)]
      const path = target.pathname + target.search
      agent.dispatch({ origin: target.origin, path, method: 'POST', headers: allHeaders, body }, handler)
    })
  }

  return { post, close: () => agent.destroy() }
}

function firstOf(value: string | string[] | undefined): string | null {
  return (Array.isArray(value) ? value[0] : value) ?? null
}

function joined(chunks: Buffer[]): Buffer {
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)
}
