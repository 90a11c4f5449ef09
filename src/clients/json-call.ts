import { STATUS_CODES } from 'node:http'
import type { z } from 'zod'
import { retryAfterMs } from './classify.ts'
import { createExchange, type ExchangeOptions } from './exchange.ts'
import type { Failure } from './failure-words.ts'
import { storableText } from './response-text.ts'

export interface JsonCallerOptions extends Omit<ExchangeOptions, 'maxBytes'> {
  /** One deadline over the whole call. Default: 15000. */
  timeoutMs?: number
  /** Bytes of an answer that are read; a longer one is no answer. Default: 1 MiB. */
  maxBytes?: number
  /** `website-worker/<version>`. Default: `website-worker`. */
  userAgent?: string
}

export interface JsonCall<T> {
  method: 'GET' | 'POST'
  url: URL
  headers?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  body?: unknown
  /** What a 2xx answer must look like. */
  schema: z.ZodType<T>
  /** A shorter deadline than the caller's own. */
  timeoutMs?: number
  /** Default: the caller's own. */
  userAgent?: string
  signal?: AbortSignal
}

/**
 * How a call ended; `error` is for people. `mayHaveWorked`: the remote may have done what was asked, so a request that
 * must not be repeated can't simply be. False means that it surely hasn't.
 */
export type JsonResult<T> =
  | { kind: 'answer'; statusCode: number; value: T; durationMs: number }
  /** An answer that isn't 2xx, or not what `schema` says. */
  | {
      kind: 'error'
      statusCode: number
      error: string
      retryAfterMs: number | null
      mayHaveWorked: boolean
      durationMs: number
    }
  /** No complete answer. */
  | ({ kind: 'none'; mayHaveWorked: boolean; durationMs: number } & Failure)

export interface JsonCaller {
  /** Never rejects. */
  call<T>(request: JsonCall<T>): Promise<JsonResult<T>>
  /** Drops every connection; what is under way ends as `aborted`. */
  close(): Promise<void>
}

/** Bytes of a refusal that are put into words. */
const maxWords = 500
const redirects: readonly number[] = [301, 302, 303, 307, 308]

/** Calls JSON APIs through the guard, following no redirect. */
export function createJsonCaller(options: JsonCallerOptions): JsonCaller {
  const { timeoutMs = 15_000, maxBytes = 1_048_576, userAgent = 'website-worker', ...rest } = options
  const exchange = createExchange({ ...rest, maxBytes })

  async function call<T>({ method, url, headers, body, schema, signal, ...own }: JsonCall<T>): Promise<JsonResult<T>> {
    const startedAt = performance.now()
    const result = await exchange.send({
      method,
      url,
      headers: [
        'accept',
        'application/json',
        'user-agent',
        own.userAgent ?? userAgent,
        ...(body === undefined ? [] : ['content-type', 'application/json']),
        ...Object.entries(headers ?? {}).flat(),
      ],
      body: body === undefined ? undefined : JSON.stringify(body),
      timeoutMs: Math.min(timeoutMs, own.timeoutMs ?? timeoutMs),
      signal,
    })
    const durationMs = Math.round(performance.now() - startedAt)
    if (result.kind === 'broken') {
      const { cause, error, why, isSent, statusCode } = result
      // A refusal is one, however its body ends.
      if (statusCode >= 300)
        return {
          kind: 'error',
          statusCode,
          error,
          retryAfterMs: null,
          mayHaveWorked: leavesOpen(statusCode),
          durationMs,
        }
      return { kind: 'none', cause, error, ...(why && { why }), mayHaveWorked: isSent, durationMs }
    }
    const { statusCode } = result
    const failed = { kind: 'error', statusCode, retryAfterMs: null, durationMs } as const
    if (statusCode < 200 || statusCode >= 300) {
      const words = inWords(statusCode, storableText(result.body, maxWords, result.contentType))
      const waitMs = retryAfterMs(result.retryAfter, Date.now())
      return { ...failed, error: words, retryAfterMs: waitMs, mayHaveWorked: leavesOpen(statusCode) }
    }
    const read = readAs(schema, result.body)
    if ('problem' in read)
      return { ...failed, error: `answered ${statusCode}, but ${read.problem}`, mayHaveWorked: true }
    return { kind: 'answer', statusCode, value: read.value, durationMs }
  }

  return { call, close: exchange.close }
}

/** Behind these something may have been done all the same: a gateway gave up, a handler failed after its commit. */
const leavesOpen = (statusCode: number) => statusCode >= 500 || statusCode < 400 || statusCode === 408

function inWords(statusCode: number, text: string | null): string {
  const status = `answered ${statusCode} ${STATUS_CODES[statusCode] ?? ''}`.trimEnd()
  if (redirects.includes(statusCode)) return `${status}: redirects are not followed, so the URL must be the final one`
  const words = (text ?? '').replaceAll(/\p{Cc}+/gu, ' ').trim()
  return words === '' ? status : `${status}: ${words}`
}

function readAs<T>(schema: z.ZodType<T>, body: Buffer): { value: T } | { problem: string } {
  let json: unknown
  try {
    json = JSON.parse(body.toString('utf8').replace(/^\uFEFF/, ''))
  } catch {
    return { problem: body.length === 0 ? 'the answer is empty' : 'the answer is not JSON' }
  }
  const parsed = schema.safeParse(json)
  if (parsed.success) return { value: parsed.data }
  const [issue] = parsed.error.issues
  const where = issue?.path.join('.') ?? ''
  return { problem: `the answer is not what it should be: ${where === '' ? '' : `${where}: `}${issue?.message}` }
}
