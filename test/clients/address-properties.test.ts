import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addressRefusal, parseRanges } from '../../src/clients/address.ts'
import { createGuard } from '../../src/clients/guard.ts'

/** What must never be reached: IANA's special-purpose registries, and all that isn't global unicast. */
const special4 = `
  0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
  192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24
  198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32`
  .trim()
  .split(/\s+/)
const special6 = `
  ::/128 ::1/128 ::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64
  100:0:0:1::/64 2001::/32 2001::/23 2001:2::/48 2001:10::/28 2001:20::/28 2001:db8::/32 2002::/16
  2620:4f:8000::/48 3fff::/20 4000::/2 5f00::/16 8000::/1 fc00::/7 fe80::/10 fec0::/10 ff00::/8 ::/3`
  .trim()
  .split(/\s+/)

const words = (text: string) => (text === '' ? [] : text.split(':').map((word) => Number.parseInt(word, 16)))

/** An address as a number, by arithmetic of this file's own. */
function numberOf(ip: string): bigint {
  if (!ip.includes(':')) return ip.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n)
  const [head = '', tail] = ip.split('::')
  const [left, right] = [words(head), words(tail ?? '')]
  const all =
    tail === undefined ? left : [...left, ...Array.from({ length: 8 - left.length - right.length }, () => 0), ...right]
  return all.reduce((sum, word) => sum * 65_536n + BigInt(word), 0n)
}

const byte = (ip: bigint, n: number) => Number((ip >> BigInt(8 * (3 - n))) & 255n)
const dotted = (ip: bigint) => [0, 1, 2, 3].map((n) => byte(ip, n)).join('.')
const groups = (ip: bigint) => Array.from({ length: 8 }, (_, n) => Number((ip >> BigInt(16 * (7 - n))) & 65_535n))
const colons = (ip: bigint) =>
  groups(ip)
    .map((word) => word.toString(16))
    .join(':')

function inside(range: string, anything: bigint): bigint {
  const [network = '', bits] = range.split('/')
  const width = network.includes(':') ? 128 : 32
  const mask = (1n << BigInt(width - Number(bits))) - 1n
  return (numberOf(network) & ~mask) | (anything & mask)
}

const any4 = fc.bigInt({ min: 0n, max: (1n << 32n) - 1n })
const any6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n })
const bad4 = fc.tuple(fc.constantFrom(...special4), any4).map(([range, ip]) => inside(range, ip))
const bad6 = fc.tuple(fc.constantFrom(...special6), any6).map(([range, ip]) => inside(range, ip))

/** A number in one of the bases that a URL may use. */
const part = (value: bigint) =>
  fc.constantFrom(
    `${value}`,
    `0x${value.toString(16)}`,
    `0X${value.toString(16).toUpperCase()}`,
    `0${value.toString(8)}`,
    `0x000${value.toString(16)}`,
  )
const wide = (text: string) => text.replaceAll(/[0-9]/g, (digit) => String.fromCodePoint(0xff10 + Number(digit)))
const percent = (text: string) => text.replaceAll(/[0-9.]/g, (sign) => `%${sign.codePointAt(0)?.toString(16)}`)

/** Any way to write a v4 host that a URL parser understands. */
const host4 = (ip: bigint) =>
  fc
    .integer({ min: 1, max: 4 })
    .chain((count) => {
      const leading = Array.from({ length: count - 1 }, (_, n) => BigInt(byte(ip, n)))
      const rest = ip & ((1n << BigInt(8 * (5 - count))) - 1n)
      return fc.tuple(...[...leading, rest].map(part))
    })
    .chain((parts) =>
      fc.tuple(fc.constantFrom('.', '。', '．'), fc.constantFrom('', '.')).map(([dot, end]) => parts.join(dot) + end),
    )
    .chain((host) => fc.constantFrom(host, wide(host), percent(host)))

/** Any way to write a v6 host. */
const host6 = (ip: bigint) => {
  const full = groups(ip).map((word) => word.toString(16).padStart(4, '0'))
  const withV4 = `${groups(ip)
    .slice(0, 6)
    .map((word) => word.toString(16))
    .join(':')}:${dotted(ip & 0xffffffffn)}`
  const short = new URL(`http://[${colons(ip)}]`).hostname.slice(1, -1)
  const spellings = [full.join(':'), full.join(':').toUpperCase(), colons(ip), withV4, short, short.toUpperCase()]
  return fc.constantFrom(...spellings).map((text) => `[${text}]`)
}

const url = (host: string) =>
  fc
    .tuple(
      fc.constantFrom('http://', 'HTTPS://', 'http:\\\\', 'https:', 'ht\ntp://'),
      fc.constantFrom('', 'user@', 'example.com:80@', 'a%40b:c@'),
      fc.constantFrom('', '/', ':8080', '\\hook', '?@example.com', '#@example.com', '\t'),
    )
    .map(([scheme, user, rest]) => scheme + user + host + rest)

const guard = createGuard()
const refused = (text: string) => {
  try {
    guard.checkUrl(text)
    return false
  } catch (error) {
    expect(error).toMatchObject({ code: 'refused' })
    return true
  }
}

describe('whatever the address', () => {
  const runs = { numRuns: 1_000 }

  test('one inside a special range is refused in every spelling', () => {
    fc.assert(
      fc.property(
        bad4.chain((ip) => host4(ip).chain(url)),
        (text) => refused(text),
      ),
      runs,
    )
    fc.assert(
      fc.property(
        bad6.chain((ip) => host6(ip).chain(url)),
        (text) => refused(text),
      ),
      runs,
    )
  })

  test('every spelling of it gets the same verdict', () => {
    const spelled4 = any4.chain((ip) => fc.tuple(fc.constant(dotted(ip)), host4(ip).chain(url)))
    const spelled6 = any6.chain((ip) => fc.tuple(fc.constant(colons(ip)), host6(ip).chain(url)))
    fc.assert(
      fc.property(fc.oneof(spelled4, spelled6), ([ip, text]) => {
        expect(refused(text), text).toBe(addressRefusal(ip, []) !== null)
      }),
      runs,
    )
  })

  test('one is refused exactly when a special range holds it', () => {
    const holds = (ranges: string[], ip: bigint) => ranges.some((range) => inside(range, ip) === ip)
    const azure = numberOf('168.63.129.16')
    fc.assert(
      fc.property(any4, (ip) => {
        expect(addressRefusal(dotted(ip), []) !== null).toBe(holds(special4, ip) || ip === azure)
      }),
      runs,
    )
    const global = any6.map((ip) => inside('2000::/3', ip))
    fc.assert(
      fc.property(fc.oneof(any6, global, bad6), (ip) => {
        expect(addressRefusal(colons(ip), []) !== null).toBe(holds(special6, ip))
      }),
      runs,
    )
  })

  test('an allowed range opens what lies in it and nothing else', () => {
    const range4 = fc.tuple(bad4, fc.integer({ min: 0, max: 32 })).map(([ip, bits]) => `${dotted(ip)}/${bits}`)
    fc.assert(
      fc.property(range4, fc.oneof(bad4, any4), (range, ip) => {
        const isOpen = addressRefusal(dotted(ip), parseRanges([range])) === null
        expect(isOpen).toBe(inside(range, ip) === ip || addressRefusal(dotted(ip), []) === null)
        expect(addressRefusal(`::ffff:${dotted(ip)}`, parseRanges([range])) === null).toBe(inside(range, ip) === ip)
      }),
      runs,
    )
    const isMapped = (ip: bigint) => ip >> 32n === 0xffffn
    const range6 = fc.tuple(bad6, fc.integer({ min: 0, max: 128 })).map(([ip, bits]) => `${colons(ip)}/${bits}`)
    fc.assert(
      fc.property(
        range6,
        fc.oneof(bad6, any6).filter((ip) => !isMapped(ip)),
        (range, ip) => {
          const isOpen = addressRefusal(colons(ip), parseRanges([range])) === null
          expect(isOpen).toBe(inside(range, ip) === ip || addressRefusal(colons(ip), []) === null)
        },
      ),
      runs,
    )
  })

  test('an allowed v4 range opens no v6 address that carries one of its addresses', () => {
    const carriers: ((ip: bigint) => bigint)[] = [
      (ip) => numberOf('64:ff9b::') | ip,
      (ip) => numberOf('64:ff9b:1::') | ip,
      (ip) => numberOf('2002::') | (ip << 80n),
      (ip) => numberOf('2001::') | (ip ^ 0xffffffffn),
      (ip) => numberOf('2001::') | (ip << 64n),
      (ip) => numberOf('::ffff:0:0:0') | ip,
      (ip) => ip,
    ]
    const range = fc.tuple(any4, fc.integer({ min: 0, max: 32 })).map(([ip, bits]) => `${dotted(ip)}/${bits}`)
    fc.assert(
      fc.property(range, any4, fc.constantFrom(...carriers), (cidr, anything, carry) => {
        expect(addressRefusal(colons(carry(inside(cidr, anything))), parseRanges([cidr]))).not.toBeNull()
      }),
      runs,
    )
  })
})
