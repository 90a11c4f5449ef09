import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import type { Status } from '@bull-board/api/typings/app'
import type { Job, JobType } from 'bullmq'
import type { Db } from '../../db/client.ts'
import type { JobDefinition } from '../../queues/define-job.ts'
import type { QueueBackend, RingData } from '../../work/backend.ts'
import { ringId } from '../../work/bell.ts'
import { describe, isRing, readItems } from './items.ts'

const states = ['active', 'waiting', 'delayed', 'failed', 'completed'] as const

/** A queue as Bull Board reads it: every ring shows its work item, and only the states that rings have are listed. */
export function createQueueAdapter(deps: { db: Db; backend: QueueBackend }, job: JobDefinition): BullMQAdapter {
  const queue = deps.backend.queue(job.name)
  const attempts = job.retry.waitsMs.length
  const adapter = new BullMQAdapter(queue, {
    description: `${job.domain} · up to ${attempts} ${attempts === 1 ? 'attempt' : 'attempts'} · ${job.worker.concurrency} at once per process`,
  })

  async function withItems(rings: Job<RingData>[]): Promise<Job[]> {
    const items = await readItems(deps.db, rings)
    const now = new Date()
    for (const ring of rings) {
      const plain = ring.toJSON.bind(ring)
      ring.toJSON = () => {
        const json = plain()
        return isRing(json.data)
          ? { ...json, data: describe(json.data, items.get(json.data.workId), now) as RingData }
          : json
      }
    }
    return rings
  }

  // Whoever looks at a ring while it is replaced, by a retry say, sees the one that took its place.
  async function currentRing(id: string) {
    const workId = Number(/^(\d{1,15})-\d+$/.exec(id)?.[1])
    const item = workId > 0 ? (await readItems(deps.db, [{ data: { workId, generation: 0 } }])).get(workId) : undefined
    return item?.job === job.name ? queue.getJob(ringId({ workId, generation: item.generation })) : undefined
  }

  Object.defineProperty(adapter, 'supportsGlobalRateLimit', { value: false })
  return Object.assign(adapter, {
    getJobStatuses: () => [...states],
    getStatuses: (): Status[] => ['latest', ...states],
    async getJob(id: string) {
      const ring = (await queue.getJob(id)) ?? (await currentRing(id))
      return ring && (await withItems([ring]))[0]
    },
    async getJobs(wanted: JobType[], start?: number, end?: number) {
      const rings = await queue.getJobs(wanted, start, end)
      return withItems(rings.filter((ring) => ring !== undefined))
    },
    // A ring has no parent and no children.
    getFlowProducer: async () => null,
    getJobSchedulersCount: async () => 0,
    // Postgres knows no connected workers: unknown, not none.
    ...(deps.backend.kind === 'postgres' && { getWorkers: async () => null }),
  })
}
