import { lookup, Resolver } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'

export interface ResolverOptions {
  /** Name servers, `address:port`. Default: the system's. */
  servers?: readonly string[]
  /** Names in it are the system's to resolve. Default: `/etc/hosts`. */
  hostsFile?: string
  /** The system's own way, which knows search domains and names that no name server has. Default: `dns.lookup`. */
  system?: (hostname: string) => Promise<readonly string[]>
}

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
    const answers = await Promise.allSettled([asked.resolve4(hostname), asked.resolve6(hostname)])
    const ips = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
    if (ips.length > 0) return ips
    const failures = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as Error] : []))
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
