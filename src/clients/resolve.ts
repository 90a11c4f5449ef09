import { lookup, Resolver } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

export interface ResolverOptions {
  /** Name servers, `address:port`. Default: the system's. */
  servers?: readonly string[]
  /** Names in it are the system's to resolve. Default: `/etc/hosts`. */
  hostsFile?: string
  /** The system's own way, which knows search domains and names that no name server has. Default: `dns.lookup`. */
  system?: (hostname: string) => Promise<readonly string[]>
}

/** Some name servers never answer for IPv6: once there are addresses, those of the other kind are waited for so long. */
const graceMs = 500
/** Settings of the machine are read again after this long. */
const freshMs = 30_000
const unknown: readonly string[] = ['ENOTFOUND', 'ENODATA', 'EBADNAME', 'ECONNREFUSED']

/**
 * Resolves names without threads. The system's resolver works on two of libuv's, so that two names whose name servers
 * never answer would keep every other name waiting; it is only asked for what no name server knows, one name at a time.
 */
export function createResolver(options: ResolverOptions = {}): (hostname: string) => Promise<readonly string[]> {
  const { servers, hostsFile = '/etc/hosts', system = systemLookup } = options
  let resolver: Resolver | undefined
  let madeAt = 0
  let lastAsked: Promise<unknown> = Promise.resolve()

  function fresh(): Resolver {
    if (!resolver || performance.now() - madeAt > freshMs) {
      resolver = new Resolver({ timeout: 2_000, tries: 3 })
      if (servers) resolver.setServers([...servers])
      madeAt = performance.now()
    }
    return resolver
  }

  function inTurn(hostname: string): Promise<readonly string[]> {
    const answer = lastAsked.then(() => system(hostname))
    lastAsked = answer.catch(() => {})
    return answer
  }

  return async (hostname) => {
    if (await listed(hostsFile, hostname)) return system(hostname)
    const asked = fresh()
    const found: string[] = []
    const note = (ips: string[]) => void found.push(...ips)
    const questions = [asked.resolve4(hostname).then(note), asked.resolve6(hostname).then(note)]
    const all = Promise.allSettled(questions)
    const enough = Promise.any(questions).then(() => wait(graceMs, undefined, { ref: false }))
    await Promise.race([all, enough.catch(() => all)])
    if (found.length > 0) return found.toSorted((a, b) => isIP(a) - isIP(b))
    const failures = (await all).flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as Error] : []))
    const silence = failures.find((error) => !('code' in error) || !unknown.includes(String(error.code)))
    if (silence) throw Object.assign(new Error('no answer', { cause: silence }), { code: 'EAI_AGAIN' })
    return inTurn(hostname)
  }
}

async function listed(hostsFile: string, hostname: string): Promise<boolean> {
  const name = hostname.replace(/\.$/, '')
  const text = await readFile(hostsFile, 'utf8').catch(() => '')
  return text
    .split('\n')
    .some((line) => (line.split('#')[0] ?? '').trim().toLowerCase().split(/\s+/).slice(1).includes(name))
}

async function systemLookup(hostname: string): Promise<readonly string[]> {
  return (await lookup(hostname, { all: true })).map(({ address }) => address)
}
