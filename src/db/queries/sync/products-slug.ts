/** Letters that Unicode doesn't take apart into a base letter and a mark. */
const letters: Record<string, string> = {
  ß: 'ss',
  æ: 'ae',
  œ: 'oe',
  ø: 'o',
  đ: 'd',
  ð: 'd',
  þ: 'th',
  ł: 'l',
  ı: 'i',
}

/** A text as the part of an address: lower case, letters and digits of any script, joined by hyphens; at most 120 characters. */
export function slugOf(text: string): string {
  const plain = text
    .normalize('NFKD')
    .toLowerCase()
    .replace(/\p{Mn}+/gu, '')
    .replace(/[ßæœøđðþłı]/g, (letter) => letters[letter] ?? letter)
  const joined = plain.normalize('NFC').replace(/[^\p{L}\p{N}\p{Mc}]+/gu, '-')
  return [...joined].slice(0, 120).join('').replace(/^-|-$/g, '')
}

/** A new product that needs a slug. */
export interface Named {
  n: number
  name: string
  sku: string
  erpId: string
}

/** Slugs that it may get, the best first; the last is nobody else's. */
export function slugCandidates({ name, sku, erpId }: Named): string[] {
  const ofSku = slugOf(sku)
  const base = slugOf(name) || ofSku || 'product'
  const withSku = ofSku && ofSku !== base ? `${base.slice(0, 120)}-${ofSku.slice(0, 100)}` : base
  return [...new Set([base, withSku, `${withSku}-${hashOf(erpId)}`])]
}

/** 32 bits of FNV-1a, in letters and digits. */
function hashOf(text: string): string {
  let hash = 0x811c9dc5
  for (const unit of text) hash = Math.imul(hash ^ (unit.codePointAt(0) ?? 0), 0x01000193)
  return (hash >>> 0).toString(36)
}

/** Gives each its first candidate that is free, and takes it. */
export function chooseSlugs(products: readonly Named[], taken: ReadonlySet<string>): string[] {
  const used = new Set(taken)
  return products.map((product) => {
    const candidates = slugCandidates(product)
    const slug = candidates.find((candidate) => !used.has(candidate)) ?? `${candidates.at(-1)}-${product.n}`
    used.add(slug)
    return slug
  })
}
