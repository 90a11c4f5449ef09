import { z } from 'zod'

/** Words of the ERP's own, given back to it as they came. */
const opaque = z
  .union([z.string(), z.int()], { error: 'must be a text' })
  .transform(String)
  .refine((text) => text.length >= 1 && text.length <= 2_000 && !/[\p{Cc}\p{Cs}]/u.test(text), {
    error: 'must be a text of 1 to 2000 characters without control characters',
  })

const mostItems = 100_000

const envelope = z.object({
  items: z.array(z.unknown(), { error: 'must be a list' }).max(mostItems),
  nextCursor: z.union([z.null(), opaque], { error: 'must be a text, or null after the last page' }),
  checkpoint: opaque,
})

export type Envelope = z.output<typeof envelope>

/** Reads what is around the items of a page. */
export function readEnvelope(json: unknown): Envelope | { problem: string } {
  const parsed = envelope.safeParse(json)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const where = issue?.path.join('.') ?? ''
  return {
    problem: `the answer is no page of records: ${where === '' ? 'it is no object' : `${where} ${issue?.message}`}`,
  }
}

const mostCursors = 100_000
const mostEmptyPages = 1_000

/** Notices a traversal that would never end, as far as it has seen it. */
export function createTraversalWatch(): (
  traversal: string,
  cursor: string | undefined,
  page: Envelope,
) => string | null {
  let current = ''
  /** Each cursor, and the one it followed. */
  let followed = new Map<string, string | undefined>()
  let emptyPages = 0
  return (traversal, cursor, { items, nextCursor }) => {
    if (traversal !== current || cursor === undefined) {
      current = traversal
      followed = new Map()
      emptyPages = 0
    }
    if (nextCursor === null) return null
    emptyPages = items.length === 0 ? emptyPages + 1 : 0
    if (emptyPages > mostEmptyPages) return `${mostEmptyPages} empty pages in a row: it has no end`
    if (nextCursor === cursor) return 'nextCursor is the cursor that was asked for: it has no end'
    // The same page may be asked for again; another one must lead elsewhere.
    if (followed.has(nextCursor) && followed.get(nextCursor) !== cursor)
      return 'nextCursor was there before: its pages go round in a circle'
    if (followed.size < mostCursors) followed.set(nextCursor, cursor)
    return null
  }
}
