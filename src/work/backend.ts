import { createPostgresBackend, Queue, runMigrations, type QueueOptions, type WorkerOptions } from 'bullmq'
import pg from 'pg'
import { openRedis, type RedisBackendOptions } from './redis.ts'

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
    async close() {
      await Promise.allSettled([...queues.values()].map((queue) => queue.close()))
    },
  }
}

/** Makes or upgrades the tables BullMQ keeps its queues in, and the mark beside them. */
export async function migrateQueueSchema(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await runMigrations(client as never)
    await client.query(
      `CREATE TABLE IF NOT EXISTS bullmq.website_worker_mark (id int PRIMARY KEY DEFAULT 1 CHECK (id = 1), queue_id text NOT NULL, counter bigint NOT NULL)`,
    )
  } finally {
    await client.end()
  }
}

/** Rings in the database: no second server, one process, small loads. `workers` is how many `Worker`s will run. */
export function openPostgresQueues(options: { url: string; workers: number }): QueueBackend {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.workers + 10,
    keepAlive: true,
    application_name: 'website-worker queue',
    options: '-c search_path=bullmq',
  })
  // Every Queue and Worker listens on the one pool.
  pool.setMaxListeners(0)
  const listeners: (() => void)[] = []
  const queues = createQueues({ connection: pool } as never, createPostgresBackend)
  let reachable = true
  let probe: NodeJS.Timeout | undefined

  // Nothing else may ask a queue that isn't ready, so it has to find out by itself that it is again.
  function lose() {
    reachable = false
    if (!pool.ending) probe ??= setTimeout(() => query('SELECT').catch(() => {}), 250)
  }
  pool.on('error', lose)
  // A connection that breaks while someone holds it fails its queries; unheard, its 'error' would also end the process.
  pool.on('connect', (client) => void client.on('error', () => {}))

  async function query(text: string, values: unknown[] = []) {
    clearTimeout(probe)
    probe = undefined
    try {
      const result = await pool.query(text, values)
      if (!reachable) {
        reachable = true
        for (const listener of listeners) listener()
      }
      return result.rows
    } catch (error) {
      lose()
      throw error
    }
  }
  return {
    kind: 'postgres',
    queue: queues.queue,
    workerOptions: { connection: pool } as never,
    factory: createPostgresBackend,
    ready: () => reachable,
    onReady: (listener) => void listeners.push(listener),
    async readMark() {
      const [row] = await query('SELECT queue_id, counter FROM bullmq.website_worker_mark WHERE id = 1')
      return row ? { queueId: row.queue_id, counter: Number(row.counter) } : null
    },
    async advanceMark(queueId) {
      const [row] = await query(
        'UPDATE bullmq.website_worker_mark SET counter = counter + 1 WHERE id = 1 AND queue_id = $1 RETURNING counter',
        [queueId],
      )
      return row ? Number(row.counter) : null
    },
    async writeMark(mark) {
      await query(
        `INSERT INTO bullmq.website_worker_mark (queue_id, counter) VALUES ($1, $2)
         ON CONFLICT (id) DO UPDATE SET queue_id = excluded.queue_id, counter = excluded.counter`,
        [mark.queueId, mark.counter],
      )
    },
    async close() {
      await queues.close()
      await pool.end()
      clearTimeout(probe)
    },
  }
}

// In one step: a wipe between reading and writing would otherwise be overwritten and never noticed.
const advance = `if redis.call('hget', KEYS[1], 'queueId') ~= ARGV[1] then return nil end
return redis.call('hincrby', KEYS[1], 'counter', 1)`

/** Rings in Redis: production, and anything with more than one process. A Redis that is away is waited for a moment only. */
export async function openRedisQueues(options: RedisBackendOptions, waitMs = 1_000): Promise<QueueBackend> {
  const redis = openRedis(options)
  await redis.whenReady(waitMs)
  // A `Queue` made while Redis is away would ask it for its version, remember the refusal and fail for ever.
  const queues = createQueues({
    connection: redis.commands,
    prefix: redis.prefix,
    skipWaitingForReady: true,
    skipVersionCheck: true,
  })
  const markKey = `${redis.prefix}:mark`
  return {
    kind: 'redis',
    queue: queues.queue,
    workerOptions: { connection: redis.blocking, prefix: redis.prefix } as never,
    factory: undefined,
    ready: redis.ready,
    onReady: redis.onReady,
    async readMark() {
      const mark = await redis.commands.hgetall(markKey)
      return mark.queueId ? { queueId: mark.queueId, counter: Number(mark.counter) } : null
    },
    async advanceMark(queueId) {
      const counter = await redis.commands.eval(advance, 1, markKey, queueId)
      return counter === null ? null : Number(counter)
    },
    async writeMark(mark) {
      await redis.commands.hset(markKey, { queueId: mark.queueId, counter: String(mark.counter) })
    },
    async close() {
      await queues.close()
      await redis.close()
    },
  }
}
