import { isIP, type LookupFunction } from 'node:net'

export interface LookupOptions {
  resolve(hostname: string): Promise<readonly string[]>
  /** Throws for an address that may not be dialled. */
  checked(ip: string, hostname: string): void
  /** After this long without an answer a name is asked for anew. */
  timeoutMs: number
}

/** What a socket asks for the addresses of a name: all of them pass, or none is dialled. */
export function createLookup({ resolve, checked, timeoutMs }: LookupOptions): LookupFunction {
  // However many connections a name gets at once, it is asked for once.
  const asking = new Map<string, Promise<readonly string[]>>()

  function addressesOf(hostname: string): Promise<readonly string[]> {
    const underWay = asking.get(hostname)
    if (underWay) return underWay
    const forget = () => {
      clearTimeout(timer)
      if (asking.get(hostname) === answer) asking.delete(hostname)
    }
    const timer = setTimeout(forget, timeoutMs)
    timer.unref()
    const answer = resolve(hostname).finally(forget)
    asking.set(hostname, answer)
    return answer
  }

  async function passed(hostname: string): Promise<[string, ...string[]]> {
    const [first, ...rest] = await addressesOf(hostname)
    if (first === undefined) throw Object.assign(new Error('no address'), { code: 'ENOTFOUND' })
    for (const ip of [first, ...rest]) checked(ip, hostname)
    return [first, ...rest]
  }

  return (hostname, { all }, callback) => {
    passed(hostname).then(
      (ips) =>
        all
          ? callback(
              null,
              ips.map((address) => ({ address, family: isIP(address) })),
            )
          : callback(null, ips[0], isIP(ips[0])),
      (error: Error) => callback(error, ''),
    )
  }
}
