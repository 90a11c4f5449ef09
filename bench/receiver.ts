import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

export interface Report {
  total: number
  distinct: number
  /** Accept to receipt, ms, of events whose id says when they were accepted. */
  latencies: number[]
}

export interface BenchReceivers {
  /** One origin each. */
  urls: string[]
  /** What came since the last report. */
  report(): Promise<Report>
  /** Lets the first ones never answer from now on. */
  hang(count: number): void
  close(): Promise<void>
}

/** Webhook receivers in a thread of their own that answer 200 to everything. */
export async function startBenchReceivers(receivers = 1): Promise<BenchReceivers> {
  const thread = new Worker(new URL('./receiver-thread.js', import.meta.url), { workerData: { receivers } })
  const [{ ports }] = (await once(thread, 'message')) as [{ ports: number[] }]
  return {
    urls: ports.map((port) => `http://127.0.0.1:${port}`),
    async report() {
      thread.postMessage('report')
      const [report] = (await once(thread, 'message')) as [Report]
      return report
    },
    hang: (count) => thread.postMessage({ hanging: count }),
    close: async () => void (await thread.terminate()),
  }
}
