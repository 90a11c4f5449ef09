import { lookup as systemLookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { buildConnector } from 'undici'
import { AppError } from '../errors.ts'
import { addressRefusal, parseRanges } from './address.ts'

export interface GuardOptions {
  /** Ranges that may be reached although they aren't public, e.g. `10.1.0.0/16`. Default: none. */
  allowCidrs?: readonly string[]
  /** Resolves a host name to all its addresses. Default: the system's resolver. */
  resolve?: (hostname: string) => Promise<readonly string[]>
}

export interface ConnectorOptions {
  /** Over DNS, TCP and TLS together. */
  timeoutMs: number
  /** PEM certificates trusted instead of the system's. Default: the system's. */
  ca?: string
}

/** What stands between a URL that users can edit and the network. */
export interface Guard {
  /** Why an IP address may not be reached, e.g. `a loopback address`; null when it may. */
  checkAddress(ip: string): string | null
  /** Throws `invalid` for what isn't an http(s) URL and `refused` for a host known to be out of bounds. */
  checkUrl(url: string | URL): URL
  /** Connects only to addresses that passed: every resolved one is checked, and one of exactly those is dialled. */
  connector(options: ConnectorOptions): buildConnector.connector
}

const refusal = (what: string) => new AppError('refused', `refused by the outbound guard: ${what}`)

/** The outbound guard: http(s) to globally routable unicast addresses, and to what `allowCidrs` adds. */
export function createGuard(options: GuardOptions = {}): Guard {
  const allowed = parseRanges(options.allowCidrs ?? [])
  const resolve = options.resolve ?? systemResolve
  const checkAddress = (ip: string) => addressRefusal(ip, allowed)

  function checkHost(hostname: string): void {
    const ip = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
    if (isIP(ip) !== 0) {
      const reason = checkAddress(ip)
      if (reason !== null) throw refusal(`${ip} is ${reason}`)
      return
    }
    // RFC 6761: these names are the machine itself, whatever the resolver says.
    const isLocal = /(^|\.)localhost\.?$/.test(hostname)
    if (isLocal && checkAddress('127.0.0.1') !== null && checkAddress('::1') !== null) {
      throw refusal(`${hostname} is this machine itself`)
    }
  }

  function checkUrl(url: string | URL): URL {
    const parsed = typeof url === 'string' ? parseUrl(url) : url
    if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
      throw new AppError('invalid', `the URL starts with ${parsed.protocol}, not with http: or https:`)
    }
    checkHost(parsed.hostname)
    return parsed
  }

  // The system's resolver works on four threads; asking once per name keeps a dead name server from taking them all.
  const asking = new Map<string, Promise<readonly string[]>>()
  function addressesOf(hostname: string): Promise<readonly string[]> {
    let answer = asking.get(hostname)
    if (!answer) {
      answer = resolve(hostname).finally(() => asking.delete(hostname))
      asking.set(hostname, answer)
    }
    return answer
  }

  const lookup: LookupFunction = (hostname, { all }, callback) => {
    addressesOf(hostname).then(
      (ips) => {
        for (const ip of ips) {
          const reason = checkAddress(ip)
          if (reason !== null) return callback(refusal(`${hostname} resolves to ${ip}, ${reason}`), '')
        }
        const first = ips[0]
        if (first === undefined) return callback(Object.assign(new Error('no address'), { code: 'ENOTFOUND' }), '')
        if (all)
          callback(
            null,
            ips.map((address) => ({ address, family: isIP(address) })),
          )
        else callback(null, first, isIP(first))
      },
      (error: Error) => callback(error, ''),
    )
  }

  return {
    checkAddress,
    checkUrl,
    connector({ timeoutMs, ca }) {
      const connect = buildConnector({ timeout: timeoutMs, lookup, ...(ca === undefined ? {} : { ca }) })
      return (target, callback) => {
        try {
          // Node dials an address written in the URL without asking `lookup`.
          checkHost(target.hostname)
        } catch (error) {
          queueMicrotask(() => callback(error as Error, null))
          return
        }
        connect(target, callback)
      }
    },
  }
}

function parseUrl(url: string): URL {
  try {
    return new URL(url)
  } catch (cause) {
    throw new AppError('invalid', 'the URL is not one', { cause })
  }
}

async function systemResolve(hostname: string): Promise<string[]> {
  return (await systemLookup(hostname, { all: true })).map(({ address }) => address)
}
