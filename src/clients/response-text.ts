const replacement = '\uFFFD'
/** From this many unreadable characters, and this share of them, an answer is not text. */
const binaryCount = 5
const binaryShare = 0.1

/**
 * What is kept of an answer: valid UTF-8 without NUL (PostgreSQL stores neither), at most `maxBytes`; what isn't text
 * is only named, e.g. `[binary answer, image/png]`.
 */
export function storableText(bytes: Buffer, maxBytes: number, contentType?: string): string | null {
  if (bytes.length === 0) return null
  let text = wholeCharacters(bytes, maxBytes)
  if (text.includes('\0')) text = text.replaceAll('\0', replacement)
  if (!text.includes(replacement)) return text
  const unreadable = text.split(replacement).length - 1
  if (unreadable >= binaryCount && unreadable > text.length * binaryShare) {
    const mediaType = /^[\w.+-]{1,50}\/[\w.+-]{1,80}/.exec(contentType ?? '')?.[0]
    return mediaType ? `[binary answer, ${mediaType}]` : '[binary answer]'
  }
  // A replaced byte takes three.
  return wholeCharacters(Buffer.from(text), maxBytes)
}

function wholeCharacters(bytes: Buffer, maxBytes: number): string {
  if (bytes.length <= maxBytes) return bytes.toString('utf8')
  let end = maxBytes
  while (end > maxBytes - 4 && end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return bytes.toString('utf8', 0, end)
}
