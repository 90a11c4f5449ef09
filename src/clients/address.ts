import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { AppError, messageOf } from '../errors.ts'

/** Parsed CIDR ranges. */
export type Ranges = readonly [ipaddr.IPv4 | ipaddr.IPv6, number][]

const words: Readonly<Record<string, string>> = {
  unspecified: 'an unspecified address',
  broadcast: 'the broadcast address',
  multicast: 'a multicast address',
  linkLocal: 'a link-local address',
  loopback: 'a loopback address',
  carrierGradeNat: 'a carrier-grade NAT address',
  private: 'a private address',
  uniqueLocal: 'a private address',
  deprecatedSiteLocal: 'a private address',
  ipv4Mapped: 'a v4-mapped address',
  rfc6145: 'a v4-translated address',
  rfc6052: 'a NAT64 address',
  '6to4': 'a 6to4 address',
  teredo: 'a Teredo address',
}

const parsed = (cidrs: readonly string[]): Ranges => cidrs.map((cidr) => ipaddr.parseCIDR(cidr))

/** Special ranges that ipaddr.js calls something broader, by the name people know. */
const named: readonly (readonly [string, Ranges])[] = [
  [
    'a documentation address',
    parsed(['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', '2001:db8::/32', '3fff::/20']),
  ],
  ['a benchmark address', parsed(['198.18.0.0/15', '2001:2::/48'])],
  ['a 6to4 relay address', parsed(['192.88.99.0/24'])],
  ['a cloud metadata address', parsed(['168.63.129.16/32'])],
]
const v4Mapped = parsed(['::ffff:0:0/96'])
const v4Compatible = parsed(['::/96'])
/** The only IPv6 space handed out for global unicast (RFC 4291, IANA). */
const v6Global = parsed(['2000::/3'])

/** Reads CIDR ranges or single addresses; throws `misconfigured`, naming the one that is wrong. */
export function parseRanges(cidrs: readonly string[]): Ranges {
  return cidrs.map((cidr) => {
    const text = cidr.trim()
    const bits = isIP(text) === 4 ? '/32' : isIP(text) === 6 ? '/128' : ''
    try {
      const slash = text.indexOf('/')
      if (bits === '' && isIP(text.slice(0, slash === -1 ? 0 : slash)) === 0) throw new Error('not an address')
      return ipaddr.parseCIDR(text + bits)
    } catch (error) {
      throw new AppError('misconfigured', `"${text}" is not a range like 10.0.0.0/8 or fd00::/8: ${messageOf(error)}`)
    }
  })
}

function parse(ip: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  const version = isIP(ip)
  if (version === 0) return undefined
  // ipaddr.js takes `::127.0.0.1` for v4-mapped; written in hex, as URL does, it doesn't.
  if (version === 6 && ip.includes('.'))
    return ipaddr.parse(new URL(`http://[${ip.split('%')[0]}]`).hostname.slice(1, -1))
  return ipaddr.parse(ip)
}

/**
 * A v4-mapped address is the v4 host: what allows that allows it, and a range of all IPv6, which is about IPv6 hosts, doesn't.
 */
function isAllowed(address: ipaddr.IPv4 | ipaddr.IPv6, allowed: Ranges): boolean {
  if (!('isIPv4MappedAddress' in address && address.isIPv4MappedAddress())) return within(address, allowed)
  const mapped = allowed.filter(([network, bits]) => bits >= 96 && within(network, v4Mapped))
  return within(address, mapped) || within(address.toIPv4Address(), allowed)
}

function within(address: ipaddr.IPv4 | ipaddr.IPv6, ranges: Ranges): boolean {
  return ranges.some(([network, bits]) => network.kind() === address.kind() && address.match(network, bits))
}

/**
 * Why an IP address (as `net.isIP` accepts it) may not be reached, e.g. `a loopback address`; null when it is globally
 * routable unicast or lies in `allowed`.
 */
export function addressRefusal(ip: string, allowed: Ranges): string | null {
  const address = parse(ip)
  if (!address) return 'not an address'
  if (isAllowed(address, allowed)) return null
  const range: string = address.range()
  if (address.kind() === 'ipv6') {
    if (range === 'unicast' && within(address, v4Compatible)) return 'a v4-compatible address'
    if (range === 'unicast' && !within(address, v6Global)) return 'a reserved address'
  }
  const name = named.find(([, ranges]) => within(address, ranges))
  if (name) return name[0]
  return range === 'unicast' ? null : (words[range] ?? 'a reserved address')
}
