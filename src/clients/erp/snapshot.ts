const mostBytes = 4_096
const replacement = '\uFFFD'

interface Bounds {
  characters: number
  entries: number
  depth: number
}

/** Tried in turn until what is left is short enough. */
const bounds: readonly Bounds[] = [
  { characters: 400, entries: 50, depth: 6 },
  { characters: 100, entries: 30, depth: 4 },
  { characters: 40, entries: 15, depth: 2 },
]

/** What is kept of a record that can't be taken: without secrets, storable, and at most 4 KiB as JSON. */
export function snapshotOf(record: unknown, redact: (text: string) => string): unknown {
  for (const bound of bounds) {
    const snapshot = cut(record, bound, redact)
    if (Buffer.byteLength(JSON.stringify(snapshot)) <= mostBytes) return snapshot
  }
  return '…'
}

function cut(value: unknown, bound: Bounds, redact: (text: string) => string): unknown {
  const { characters, entries, depth } = bound
  const storable = (text: string) => {
    // A secret may stand where it is cut.
    const begun = redact(text.slice(0, 2 * characters)).slice(0, characters)
    return `${begun.replaceAll(/[\0\p{Cs}]/gu, replacement)}${text.length > characters ? '…' : ''}`
  }
  if (typeof value === 'string') return storable(value)
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth === 0) return '…'
  const inner = { ...bound, depth: depth - 1 }
  const rest = (count: number) => `… ${count - entries} more`
  if (Array.isArray(value)) {
    const kept: unknown[] = value.slice(0, entries).map((each) => cut(each, inner, redact))
    return value.length > entries ? [...kept, rest(value.length)] : kept
  }
  const keys = Object.keys(value)
  const kept = keys
    .slice(0, entries)
    .map((key) => [storable(key), cut((value as Record<string, unknown>)[key], inner, redact)] as const)
  // Unlike an assignment it makes a property of any name, also of `__proto__`.
  return Object.fromEntries(keys.length > entries ? [...kept, ['…', rest(keys.length)]] : kept)
}
