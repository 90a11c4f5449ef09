/** What a webhook row's `headers` came to. */
export interface CustomHeaders {
  /** Names and values in turn. */
  pairs: readonly string[]
  /** Names that can't be sent, or that a row may not set. */
  leftOut: readonly string[]
}

const none: CustomHeaders = { pairs: [], leftOut: [] }

/** Ours, and those that describe the connection or the body (RFC 9110 §7.6.1): a row may not set them. */
const reserved: ReadonlySet<string> = new Set([
  'webhook-id',
  'webhook-timestamp',
  'webhook-signature',
  'content-type',
  'content-length',
  'content-encoding',
  'user-agent',
  'host',
  'connection',
  'keep-alive',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
  'http2-settings',
])
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/
const sendable = /^[\t\x20-\x7e\x80-\xff]*$/
const mostBytes = 16_384

/** Vets the `headers` column, which may hold anything: only plain names with plain values pass, the first of a name. */
export function customHeaders(value: unknown): CustomHeaders {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return none
  const entries = Object.entries(value)
  if (entries.length === 0) return none
  const pairs: string[] = []
  const leftOut: string[] = []
  const seen = new Set<string>()
  let bytes = 0
  for (const [name, raw] of entries) {
    const lower = name.toLowerCase()
    const text =
      typeof raw === 'string' ? raw : typeof raw === 'number' || typeof raw === 'boolean' ? String(raw) : null
    const fits = text !== null && bytes + name.length + text.length <= mostBytes
    if (!fits || reserved.has(lower) || seen.has(lower) || !token.test(name) || !sendable.test(text)) {
      leftOut.push(name)
      continue
    }
    seen.add(lower)
    bytes += name.length + text.length
    pairs.push(name, text)
  }
  return { pairs, leftOut }
}
