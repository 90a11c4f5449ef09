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

const longest = 120

/** A text as the part of an address: lower case, letters and digits of any script, joined by hyphens; at most 120 characters. */
export function slugOf(text: string): string {
  // Most are ASCII, and are as they are when taken apart.
  const isAscii = /^[\x20-\x7e]*$/.test(text)
  if (isAscii && text.length <= longest) {
    return text
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-|-$/g, '')
  }
  const plain = text
    .normalize('NFKD')
    .toLowerCase()
    .replace(/\p{Mn}+/gu, '')
    .replace(/[ßæœøđðþłı]/g, (letter) => letters[letter] ?? letter)
  const joined = plain.normalize('NFC').replace(/[^\p{L}\p{N}\p{Mc}]+/gu, '-')
  return [...joined].slice(0, longest).join('').replace(/^-|-$/g, '')
}

/** A new product that needs a slug. */
export interface Named {
  n: number
  name: string
  sku: string
  erpId: string
}

const baseOf = ({ name, sku }: Named): string => slugOf(name) || slugOf(sku) || 'product'

/** What it may get instead where the plain one is taken, the best first; the last is nobody else's. */
function alternatives({ sku, erpId }: Named, base: string): string[] {
  const ofSku = slugOf(sku)
  const withSku = ofSku && ofSku !== base ? `${base.slice(0, longest)}-${ofSku.slice(0, 100)}` : base
  return [withSku, `${withSku}-${hashOf(erpId)}`]
}

/** 32 bits of FNV-1a, in letters and digits. */
function hashOf(text: string): string {
  let hash = 0x811c9dc5
  for (const unit of text) hash = Math.imul(hash ^ (unit.codePointAt(0) ?? 0), 0x01000193)
  return (hash >>> 0).toString(36)
}

/**
 * Gives each product the first slug that is free, of its name, then with its SKU, then of its ERP id too, in their order.
 * `readTaken` says which of some the shop has already.
 */
export async function chooseSlugs(
  products: readonly Named[],
  readTaken: (candidates: readonly string[]) => Promise<readonly string[]>,
): Promise<string[]> {
  const slugs = products.map(baseOf)
  const used = new Set(await readTaken([...new Set(slugs)]))
  const left: number[] = []
  slugs.forEach((slug, at) => (used.has(slug) ? left.push(at) : used.add(slug)))
  if (left.length === 0) return slugs
  const others = left.map((at) => ({ at, candidates: alternatives(products[at]!, slugs[at]!) }))
  for (const slug of await readTaken([...new Set(others.flatMap(({ candidates }) => candidates))])) used.add(slug)
  for (const { at, candidates } of others) {
    const slug = candidates.find((candidate) => !used.has(candidate)) ?? `${candidates.at(-1)}-${products[at]!.n}`
    used.add(slug)
    slugs[at] = slug
  }
  return slugs
}
