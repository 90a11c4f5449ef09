import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

export interface Report {
  total: number
  distinct: number
  /** Accept to receipt, ms, of events whose id says when they were accepted. */
  latencies: number[]
}

export interface BenchReceiver {
  url: string
  /** What came since the last report. */
  report(): Promise<Report>
  close(): Promise<void>
}

/** A webhook receiver in a thread of its own that answers 200 to everything. */
export async function startBenchReceiver(): Promise<BenchReceiver> {
  const thread = new Worker(new URL('./receiver-thread.js', import.meta.url))
  const [{ port }] = (await once(thread, 'message')) as [{ port: number }]
  return {
    url: `http://127.0.0.1:${port}`,
    async report() {
      thread.postMessage('report')
      const [report] = (await once(thread, 'message')) as [Report]
      return report
    },
    close: async () => void (await thread.terminate()),
  }
}
