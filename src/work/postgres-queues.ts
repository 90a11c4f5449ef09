import { createPostgresBackend, runMigrations } from 'bullmq'
import pg from 'pg'
import { atMost } from '../deadline.ts'
import { createQueues, type QueueBackend } from './backend.ts'

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
    keepAliveInitialDelayMillis: 10_000,
    connectionTimeoutMillis: 5_000,
    application_name: 'website-worker queue',
    options: '-c search_path=bullmq',
  })
  // Every Queue and Worker listens on the one pool.
  pool.setMaxListeners(0)
  const listeners: (() => void)[] = []
  const lostListeners: (() => void)[] = []
  const queues = createQueues({ connection: pool } as never, createPostgresBackend)
  let reachable = true
  let probe: NodeJS.Timeout | undefined

  // Nothing else may ask a queue that isn't ready, so it has to find out by itself that it is again.
  function lose() {
    if (reachable) for (const listener of lostListeners) listener()
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
    onLost: (listener) => void lostListeners.push(listener),
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
      await atMost(1_000, pool.end())
      clearTimeout(probe)
    },
  }
}
