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
} from './failure-words.ts'
import type { Guard } from './guard.ts'

export interface ExchangeOptions {
  guard: Guard
  /** Bytes of an answer that are read; a longer one is given up. */
  maxBytes: number
  /** One connection for each request, so that none is lost on one that the remote just closed. Default: false. */
  freshConnections?: boolean
  /** PEM certificates trusted instead of the system's. Default: the system's. */
  ca?: string
}

export interface ExchangeRequest {
  method: 'GET' | 'POST'
  url: URL
  /** Names and values in turn. */
  headers: readonly string[]
  body?: string | undefined
  /** One deadline over DNS, connect, TLS, headers and body. */
  timeoutMs: number
  signal?: AbortSignal | undefined
}

export type ExchangeResult =
  | { kind: 'complete'; statusCode: number; retryAfter: string | null; contentType: string | undefined; body: Buffer }
  /** `isSent`: at least a part of the request may have left. `statusCode`: of an answer that broke off, else 0. */
  | ({ kind: 'broken'; isSent: boolean; statusCode: number } & Failure)

/** Makes single HTTP requests through the guard: one deadline, a bounded answer, no redirects, no retries. */
export function createExchange(options: ExchangeOptions) {
  const { guard, maxBytes } = options
  // Requests have their own deadlines; this ends connections that nobody waits for.
  const connecting = watchConnecting(
    guard.connector({ timeoutMs: 120_000, ...(options.ca === undefined ? {} : { ca: options.ca }) }),
  )
  const agent = new Agent({
    connect: connecting.connect,
    // undici's way to say that no connection is kept.
    pipelining: options.freshConnections ? 0 : 1,
    headersTimeout: 0,
    bodyTimeout: 0,
  })

  function send(request: ExchangeRequest): Promise<ExchangeResult> {
    const { method, url, headers, body, timeoutMs, signal } = request
    try {
      guard.checkUrl(url)
    } catch (error) {
      return Promise.resolve({ kind: 'broken', isSent: false, statusCode: 0, ...describeRefusal(error) })
    }
    if (signal?.aborted) return Promise.resolve({ kind: 'broken', isSent: false, statusCode: 0, ...stoppedEarly })

    return new Promise((resolve) => {
      let controller: Dispatcher.DispatchController | undefined
      let stopped: Error | undefined
      let statusCode = 0
      let retryAfter: string | null = null
      let contentType: string | undefined
      let readBytes = 0
      const chunks: Buffer[] = []

      const timer = setTimeout(() => stop(timedOut(circumstance())), Math.max(0, timeoutMs))
      const connected = connecting.waitFor(url.origin)
      const deaf = signal && onceAborted(signal, () => stop(stoppedEarly))

      function circumstance(): Circumstance {
        const before = () => connecting.phaseOf(url.origin) ?? 'queue'
        const phase = statusCode !== 0 ? 'body' : controller ? 'headers' : before()
        return { phase, target: url, timeoutMs, statusCode }
      }
      function settle(result: ExchangeResult): void {
        clearTimeout(timer)
        connected()
        deaf?.()
        resolve(result)
      }
      function breakOff(failure: Failure): void {
        settle({ kind: 'broken', isSent: controller !== undefined, statusCode, ...failure })
      }
      function stop(failure: Failure): void {
        if (stopped) return
        stopped = new Error(failure.error)
        breakOff(failure)
        // Before `onRequestStart` there is no controller yet: the request is dropped there, unsent.
        controller?.abort(stopped)
      }

      agent.dispatch(
        {
          origin: url.origin,
          path: url.pathname + url.search,
          method,
          headers: [...headers],
          ...(body === undefined ? {} : { body }),
        },
        {
          onRequestStart(started) {
            connected()
            if (stopped) started.abort(stopped)
            else controller = started
          },
          onResponseStart(_, status, responseHeaders) {
            if (status < 200) return
            statusCode = status
            retryAfter = firstOf(responseHeaders['retry-after'])
            contentType = firstOf(responseHeaders['content-type']) ?? undefined
          },
          onResponseData(_, chunk) {
            readBytes += chunk.length
            if (readBytes <= maxBytes) chunks.push(chunk)
            else {
              const error = `answered ${statusCode}, but with more than ${maxBytes} bytes`
              stop({ cause: 'network', error, why: 'too-long' })
            }
          },
          onResponseEnd: () =>
            settle({ kind: 'complete', statusCode, retryAfter, contentType, body: Buffer.concat(chunks) }),
          onResponseError(_, error) {
            if (!stopped) breakOff(describeFailure(error, circumstance()))
          },
        },
      )
    })
  }

  return { send, close: () => agent.destroy() }
}

function firstOf(value: string | string[] | undefined): string | null {
  return (Array.isArray(value) ? value[0] : value) ?? null
}
