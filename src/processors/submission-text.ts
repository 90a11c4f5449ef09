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
  const parsed = z
    .email()
    .max(254)
    .safeParse(typeof value === 'string' ? value.trim() : value)
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

  function bounded(value: unknown, depth: number): unknown {
    if (typeof value === 'string') return text(value)
    // Numbers and brackets take room too.
    left -= 4
    if (typeof value !== 'object' || value === null) return left > 0 ? value : '…'
    if (depth >= mostDepth) return text(JSON.stringify(value))
    if (Array.isArray(value)) {
      const items = value.slice(0, mostItems).map((item) => bounded(item, depth + 1))
      return value.length > mostItems ? [...items, `… [shortened: ${value.length} items]`] : items
    }
    const entries = Object.entries(value)
    const kept = entries
      .slice(0, mostKeys)
      .map(([key, inner]): [string, unknown] => [text(key.slice(0, 255)), bounded(inner, depth + 1)])
    if (entries.length > mostKeys) kept.push(['…', `[shortened: ${entries.length} fields]`])
    return Object.fromEntries(kept)
  }
  return bounded(isObject(data) ? data : { value: data }, 0) as Record<string, unknown>
}

/** What was submitted, field by field; empty when it isn't an object. */
export const submitted = (data: unknown): Record<string, unknown> => (isObject(data) ? data : {})
