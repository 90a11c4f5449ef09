import { fork } from 'node:child_process'
import { once } from 'node:events'

export interface BenchErp {
  url: string
  /** Requests since the last time it was asked. */
  requests(): Promise<number>
  close(): Promise<void>
}

/** An ERP on loopback with `products` products, in a process of its own. */
export async function startBenchErp(products: number): Promise<BenchErp> {
  const child = fork(new URL('./erp-process.js', import.meta.url), [String(products)])
  const [{ url }] = (await once(child, 'message')) as [{ url: string }]
  return {
    url,
    async requests() {
      child.send('requests')
      const [{ requests }] = (await once(child, 'message')) as [{ requests: number }]
      return requests
    },
    async close() {
      const ended = once(child, 'exit')
      child.disconnect()
      await ended
    },
  }
}
