import { Queue, type createPostgresBackend, type QueueOptions, type WorkerOptions } from 'bullmq'
import { atMost } from '../deadline.ts'

/** What a ring carries. */
export interface RingData {
  workId: number
  generation: number
}

/** The queue's own memory of which queue it is and how far it had come; see `epoch.ts`. */
export interface QueueMark {
  queueId: string
  counter: number
}

/** Where rings are kept: Redis, or the database itself for a single process. */
export interface QueueBackend {
  kind: 'redis' | 'postgres'
  /** The job's queue; one object per job and process. */
  queue(job: string): Queue<RingData>
  /** Options every `Worker` of this backend is made with, and its factory. */
  workerOptions: Pick<WorkerOptions, 'connection' | 'prefix'>
  factory: typeof createPostgresBackend | undefined
  /** True while commands can be expected to answer at once. */
  ready(): boolean
  /** Calls back whenever the queue becomes reachable. */
  onReady(listener: () => void): void
  /** Calls back when the queue has become unreachable and its workers had better rest. */
  onLost(listener: () => void): void
  readMark(): Promise<QueueMark | null>
  /** Counts one further if the queue still is `queueId`, in one step; null when it isn't, or is empty. */
  advanceMark(queueId: string): Promise<number | null>
  writeMark(mark: QueueMark): Promise<void>
  close(): Promise<void>
}

/** Keeps one `Queue` per job and closes them together. */
export function createQueues(options: QueueOptions, factory?: typeof createPostgresBackend) {
  const queues = new Map<string, Queue<RingData>>()
  return {
    queue(job: string): Queue<RingData> {
      let queue = queues.get(job)
      if (!queue) {
        queue = (
          factory ? new Queue(job, options as never, factory as never) : new Queue(job, options)
        ) as Queue<RingData>
        // The backend reports its own outages; an unheard 'error' would end the process.
        queue.on('error', () => {})
        queues.set(job, queue)
      }
      return queue
    },
    // A queue whose server is away never ends closing; its connections are closed after it, which is enough.
    async close() {
      await atMost(1_000, Promise.allSettled([...queues.values()].map((queue) => queue.close())))
    },
  }
}
