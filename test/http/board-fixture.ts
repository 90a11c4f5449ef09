import { Worker } from 'bullmq'
import Fastify from 'fastify'
import pino from 'pino'
import { vi } from 'vitest'
import { eq } from 'drizzle-orm'
import { z } from 'zod'
import { work } from '../../src/db/schema/worker.ts'
import { createBoard, type BoardDeps } from '../../src/http/board.ts'
import { deliverWebhook } from '../../src/queues/deliver-webhook.ts'
import { defineJob, type JobDefinition } from '../../src/queues/define-job.ts'
import type { QueueBackend, RingData } from '../../src/work/backend.ts'
import { migrateQueueSchema, openPostgresQueues } from '../../src/work/postgres-queues.ts'
import { openRedisQueues } from '../../src/work/redis-queues.ts'
import { createBell, ringId } from '../../src/work/bell.ts'
import type { Ring } from '../../src/work/transitions.ts'
import { createTestDatabase } from '../fixtures/database.ts'
import { opened } from '../fixtures/open-fixtures.ts'
import { randomPrefix, sharedRedisUrl } from '../fixtures/shared-redis.ts'

export type WorkItem = typeof work.$inferSelect

export const otherJob = defineJob({
  name: 'publish-page',
  domain: 'publishing',
  schema: z.object({ pageId: z.number() }),
  key: ['pageId'],
  retry: { waitsMs: [0] },
  worker: { concurrency: 1 },
})

const openQueues = {
  async postgres({ url }: { url: string }): Promise<QueueBackend> {
    await migrateQueueSchema(url)
    return openPostgresQueues({ url, workers: 1 })
  },
  redis: ({ redisUrl = sharedRedisUrl() }: { redisUrl?: string }): Promise<QueueBackend> =>
    openRedisQueues({ url: redisUrl, prefix: randomPrefix() }),
}

export type BackendKind = keyof typeof openQueues

export const credentials = (name: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
})

/** Users of the boards under test. */
export const users = [
  { name: 'olga', password: 'öffne:dich', access: 'rw' },
  { name: 'rosa', password: 'nur-schauen', access: 'ro' },
] as const
export const asOlga = credentials('olga', 'öffne:dich')
export const asRosa = credentials('rosa', 'nur-schauen')
/** What a browser adds to a request of the board's own page. */
export const fromBoard = { 'sec-fetch-site': 'same-origin' }

export type Board = Awaited<ReturnType<typeof openBoard>>

/** A board over a database and a queue of its own. */
export async function openBoard(
  kind: BackendKind,
  options: Partial<Pick<BoardDeps, 'users' | 'open'>> & { redisUrl?: string } = {},
) {
  const database = await createTestDatabase()
  const backend = await openQueues[kind]({ url: database.url, ...options })
  const log = pino({ level: 'silent' })
  const bell = createBell({ db: database.db, backend, log })
  const app = Fastify()
  const jobs: JobDefinition[] = [deliverWebhook, otherJob]
  const deps = { db: database.db, bell, backend, jobs, log, users, open: false, ...options }
  await app.register(createBoard(deps), { prefix: '/admin/queues' })
  await app.ready()
  const closed = opened(`board on ${kind}`)
  const queue = backend.queue(deliverWebhook.name)
  let worker: Worker | undefined

  const board = {
    app,
    db: database.db,
    backend,
    queue,

    /** Calls the board as a user who may act, from its own page. */
    call(method: 'GET' | 'PUT' | 'POST' | 'PATCH', path: string, headers: object = asOlga) {
      return app.inject({ method, url: `/admin/queues${path}`, headers: { ...fromBoard, ...headers } })
    },

    async item(id: number): Promise<WorkItem> {
      const [row] = await database.db.select().from(work).where(eq(work.id, id))
      if (!row) throw new Error(`no work item ${id}`)
      return row
    },

    async addItem(values: Partial<typeof work.$inferInsert> = {}): Promise<WorkItem> {
      const [row] = await database.db
        .insert(work)
        .values({
          job: deliverWebhook.name,
          key: crypto.randomUUID(),
          payload: { deliveryId: 7 },
          label: 'order.created → shop.example',
          ...values,
        })
        .returning()
      if (!row) throw new Error('nothing was inserted')
      return row
    },

    /** Rings an item and returns the ring's id. */
    async ring(item: WorkItem): Promise<string> {
      const ring: Ring = { ...item, workId: item.id, delayMs: Math.max(0, item.nextAt.getTime() - Date.now()) }
      await bell.ringNow(item.job, [ring])
      return ringId(ring)
    },

    /** Rings an item, lets the ring end that way and its worker stop. */
    async ringAndEnd(item: WorkItem, end: 'completed' | 'failed'): Promise<string> {
      const id = await board.ring(item)
      const handle = async () => {
        if (end === 'failed') throw new Error('503 from shop.example')
        return { outcome: 'done' }
      }
      await board.work(handle)
      const ended = async () => {
        if ((await queue.getJobState(id)) !== end) throw new Error(`not ${end} yet`)
      }
      await vi.waitFor(ended, { timeout: 10_000, interval: 10 })
      await board.stopWork()
      return id
    },

    /** Starts a worker. */
    async work(handle: () => Promise<unknown>) {
      const args = { ...backend.workerOptions, drainDelay: 1 } as never
      worker = backend.factory
        ? new Worker<RingData>(deliverWebhook.name, handle, args, backend.factory as never)
        : new Worker<RingData>(deliverWebhook.name, handle, args)
      worker.on('error', () => {})
      await worker.waitUntilReady()
    },

    async stopWork() {
      await worker?.close()
      worker = undefined
    },

    /** Forgets every ring and work item. */
    async reset() {
      await board.stopWork()
      await Promise.all(jobs.map((job) => backend.queue(job.name).obliterate({ force: true })))
      await queue.resume()
      await database.db.execute('TRUNCATE website_worker.work, website_worker.queue_pauses')
    },

    async close() {
      await board.stopWork()
      await app.close()
      if (kind === 'redis' && backend.ready())
        await Promise.all(jobs.map((job) => backend.queue(job.name).obliterate({ force: true })))
      await backend.close()
      await database.drop()
      closed()
    },
  }
  return board
}
