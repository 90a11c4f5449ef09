import { Agent, type Dispatcher } from 'undici'
import { onceAborted } from './abort-listeners.ts'
import { describeFailure, stoppedEarly, timedOut, type Failure, type FailureCause } from './failure-words.ts'
import type { Guard } from './guard.ts'
import { storableText } from './response-text.ts'

export interface SenderOptions {
  guard: Guard
  /** One deadline over DNS, connect, TLS, headers and body. */
  timeoutMs: number
  /** `website-worker/<version>`. Default: `website-worker`. */
  userAgent?: string
  /** Connections to one origin at once. Default: no limit. */
  maxConnectionsPerOrigin?: number
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
  const { guard, timeoutMs, maxReadBytes = 65_536, maxStoredBytes = 16_384 } = options
  const agent = new Agent({
    connect: guard.connector({ timeoutMs, ...(options.ca === undefined ? {} : { ca: options.ca }) }),
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
      const failure = describeFailure(error as Error, '', timeoutMs)
      return Promise.resolve({ kind: 'none', ...failure, durationMs: durationMs() })
    }
    if (signal?.aborted) return Promise.resolve({ kind: 'none', cause: 'aborted', error: stoppedEarly, durationMs: 0 })

    return new Promise((resolve) => {
      let controller: Dispatcher.DispatchController | undefined
      let stopped: Error | undefined
      let statusCode = 0
      let retryAfter: string | null = null
      let contentType: string | undefined
      let chunks: Buffer[] | undefined
      let readBytes = 0

      const timer = setTimeout(() => stop({ cause: 'timeout', error: timedOut(timeoutMs) }), timeoutMs)
      const deaf = signal && onceAborted(signal, () => stop({ cause: 'aborted', error: stoppedEarly }))

      function settle(result: Answer | NoAnswer): void {
        clearTimeout(timer)
        deaf?.()
        resolve(result)
      }
      function answer(): void {
        const bodyText = chunks ? storableText(joined(chunks), maxStoredBytes, contentType) : null
        settle({ kind: 'answer', statusCode, retryAfter, bodyText, durationMs: durationMs() })
      }
      function noAnswer({ cause, error }: Failure): void {
        // A refusal is one however its body ends; an acceptance counts once it is complete.
        if (statusCode >= 300) return answer()
        const words = statusCode === 0 ? error : `answered ${statusCode}, but ${error} before the answer was complete`
        settle({ kind: 'none', cause, error: words, durationMs: durationMs() })
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
          if (!stopped) noAnswer(describeFailure(error, target.hostname, timeoutMs))
        },
      }
      const allHeaders = [...ours, ...headers, ...userinfo(target, headers)]
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

/** `https://user:secret@host/` means basic authentication; undici alone would drop it. */
function userinfo({ username, password }: URL, headers: readonly string[]): string[] {
  if (username === '' && password === '') return []
  if (headers.some((name, index) => index % 2 === 0 && name.toLowerCase() === 'authorization')) return []
  const plain = Buffer.from(`${percentDecoded(username)}:${percentDecoded(password)}`)
  return ['authorization', `Basic ${plain.toString('base64')}`]
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
