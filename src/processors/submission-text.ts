import { z } from 'zod'

/** How much of a submission is passed on; the row keeps all of it. */
const mostKeys = 200
const mostItems = 100
const mostDepth = 5
const mostOfString = 20_000
const mostTogether = 200_000

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Without NUL, other control characters but tab and line feed, and halves of surrogate pairs. */
function clean(text: string): string {
  return text
    .replaceAll(/\r\n?/g, '\n')
    .replaceAll(/[^\P{Cc}\t\n]/gu, '')
    .replaceAll(/\p{Cs}/gu, '\uFFFD')
}

/** A submitted value as text: of one line where `lines` is false; undefined when there is nothing to read. */
export function textOf(value: unknown, most: number, lines = false): string | undefined {
  const parts = Array.isArray(value) ? value.slice(0, mostItems) : [value]
  if (parts.some((part) => !['string', 'number', 'boolean'].includes(typeof part))) return undefined
  const text = clean(parts.map((part) => String(part).slice(0, 2 * most)).join(', '))
  const fit = (lines ? text : text.replaceAll(/\s+/g, ' '))
    .trim()
    .slice(0, most)
    .replace(/\p{Cs}$/u, '')
  return fit === '' ? undefined : fit
}

/** A submitted value if it is an e-mail address, of one that nothing can be hidden in. */
export function emailOf(value: unknown): string | undefined {
  const text = typeof value === 'string' ? value.trim() : ''
  // Asked first: the pattern runs out of stack on text of megabytes.
  if (text.length > 254) return undefined
  const parsed = z.email().safeParse(text)
  return parsed.success ? parsed.data : undefined
}

/** Everything that was submitted, as JSON of bounded size that can be stored and sent anywhere. */
export function boundedFields(data: unknown): Record<string, unknown> {
  let left = mostTogether

  function text(value: string): string {
    const most = Math.max(0, Math.min(mostOfString, left))
    const kept = clean(value.slice(0, most))
    left -= kept.length
    return value.length > most ? `${kept}… [shortened: ${value.length} characters]` : kept
  }

  function list(values: readonly unknown[], depth: number): unknown[] {
    const kept: unknown[] = []
    for (const value of values.slice(0, mostItems)) {
      if (left <= 0) break
      kept.push(bounded(value, depth))
    }
    return kept.length < values.length ? [...kept, `… [shortened: ${values.length} items]`] : kept
  }

  function object(entries: readonly [string, unknown][], depth: number): Record<string, unknown> {
    const kept: [string, unknown][] = []
    for (const [key, value] of entries.slice(0, mostKeys)) {
      if (left <= 0) break
      kept.push([text(key.slice(0, 255)), bounded(value, depth)])
    }
    if (kept.length < entries.length) kept.push(['…', `[shortened: ${entries.length} fields]`])
    return Object.fromEntries(kept)
  }

  function bounded(value: unknown, depth: number): unknown {
    // Numbers, brackets and what is said of shortened values take room too.
    left -= 10
    if (typeof value === 'string') return text(value)
    if (typeof value !== 'object' || value === null) return value
    if (depth >= mostDepth) return text(jsonOf(value))
    return Array.isArray(value) ? list(value, depth + 1) : object(Object.entries(value), depth + 1)
  }
  return bounded(isObject(data) ? data : { value: data }, 0) as Record<string, unknown>
}

/** JSON of what may nest deeper than it can be written. */
function jsonOf(value: object): string {
  try {
    return JSON.stringify(value)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return '[nested too deep]'
  }
}

/** What was submitted, field by field; empty when it isn't an object. */
export const submitted = (data: unknown): Record<string, unknown> => (isObject(data) ? data : {})
