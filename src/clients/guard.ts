import { isIP } from 'node:net'
import { buildConnector } from 'undici'
import { AppError } from '../errors.ts'
import { addressRefusal, parseRanges } from './address.ts'
import type { Connect } from './connecting.ts'
import { createLookup } from './lookup.ts'
import { createResolver } from './resolve.ts'

export interface GuardOptions {
  /** Ranges that may be reached although they aren't public, e.g. `10.1.0.0/16`. Default: none. */
  allowCidrs?: readonly string[]
  /** Resolves a host name to all its addresses. Default: what `createResolver` makes. */
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
  connector(options: ConnectorOptions): Connect
}

const refusal = (what: string) => new AppError('refused', `refused by the outbound guard: ${what}`)

/** The outbound guard: http(s) to globally routable unicast addresses, and to what `allowCidrs` adds. */
export function createGuard(options: GuardOptions = {}): Guard {
  const allowed = parseRanges(options.allowCidrs ?? [])
  const resolve = options.resolve ?? createResolver()
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
    // RFC 1035 §2.3.4: no name server could be asked for anything else.
    const isName = /^(?=.{1,254}$)([^.]{1,63}\.)*[^.]{1,63}\.?$/.test(hostname)
    if (!isName) throw new AppError('invalid', "the URL's host is no possible name")
  }

  function checkUrl(url: string | URL): URL {
    const parsed = typeof url === 'string' ? parseUrl(url) : url
    if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
      throw new AppError('invalid', `the URL starts with ${parsed.protocol}, not with http: or https:`)
    }
    if (parsed.port === '0') throw new AppError('invalid', 'the URL has port 0, where nobody can listen')
    checkHost(parsed.hostname)
    return parsed
  }

  return {
    checkAddress,
    checkUrl,
    connector({ timeoutMs, ca }) {
      const checked = (ip: string, hostname: string) => {
        const reason = checkAddress(ip)
        if (reason !== null) throw refusal(`${hostname} resolves to ${ip}, ${reason}`)
      }
      const connect = buildConnector({
        timeout: timeoutMs,
        lookup: createLookup({ resolve, checked, timeoutMs }),
        // Node's own 250 ms give up on receivers that are far away, for addresses that this machine has no route to.
        autoSelectFamily: true,
        autoSelectFamilyAttemptTimeout: Math.max(250, Math.min(3_000, timeoutMs / 4)),
        ...(ca === undefined ? {} : { ca }),
      }) as Connect
      return (target, callback) => {
        try {
          // Node dials an address written in the URL without asking `lookup`.
          checkHost(target.hostname)
        } catch (error) {
          queueMicrotask(() => callback(error as Error, null))
          return undefined
        }
        return connect(target, callback)
      }
    },
  }
}

function parseUrl(url: string): URL {
  try {
    return new URL(url)
  } catch (cause) {
    throw new AppError('invalid', 'the URL is not a web address', { cause })
  }
}
