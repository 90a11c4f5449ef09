import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino, type Logger } from 'pino'
import type { Config } from './config.ts'
import { createDatabase, type Db } from './db/client.ts'
import { startEmbeddedPostgres } from './db/embedded.ts'
import { migrate, pendingMigrations } from './db/migrate.ts'
import { packageRoot } from './db/package-root.ts'
import { forgetJobs, registerJobs } from './db/queries/enqueue.ts'
import { AppError } from './errors.ts'
import { configureJobs } from './queues/index.ts'
import type { QueueBackend } from './work/backend.ts'
import { migrateQueueSchema, openPostgresQueues } from './work/postgres-queues.ts'
import { openRedisQueues } from './work/redis-queues.ts'
import { refuseSecondQueue } from './work/epoch.ts'
import { checkRedis } from './work/redis.ts'

export const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }

/** Where the zero-install database lives. */
export const dataDir = () => join(packageRoot(), '.data')

/** Structured logs on standard output; secrets never reach them. */
export function createLogger(level: string): Logger {
  const secrets = ['req.headers.authorization', 'req.headers.cookie', 'headers.authorization']
  return pino({ level, redact: [...secrets, '*.secret', '*.password', '*.apiKey'] })
}

/** The database to work on: `DATABASE_URL`, or the embedded one, started and migrated. */
export async function openDatabaseUrl(config: Config, log: Logger): Promise<{ url: string; stop(): Promise<void> }> {
  if (config.DATABASE_URL) return { url: config.DATABASE_URL, stop: async () => {} }
  const embedded = await startEmbeddedPostgres({
    dataDir: join(dataDir(), 'postgres'),
    log: (message) => log.info({ part: 'embedded postgres' }, message),
  })
  try {
    await migrateAll(embedded.url)
  } catch (error) {
    await embedded.stop()
    throw error
  }
  return embedded
}

/** Brings every schema of ours to this release: the shared tables, the worker's own, the queue's, and the job registry. */
export async function migrateAll(url: string, options: Parameters<typeof migrate>[1] = {}) {
  const result = await migrate(url, options)
  await migrateQueueSchema(url)
  const database = createDatabase({ url, max: 1 })
  try {
    const jobs = configureJobs()
    await registerJobs(database.db, jobs)
    await forgetJobs(database.db, jobs)
  } finally {
    await database.close()
  }
  return result
}

/** @throws AppError `misconfigured` when the schema lacks what this release needs */
export async function refuseUnmigrated(db: Db): Promise<void> {
  const pending = await pendingMigrations(db)
  if (pending.length > 0) {
    throw new AppError('misconfigured', `The database lacks ${pending.join(', ')}. Run: website-worker migrate`)
  }
}

export interface QueueOptions {
  config: Config
  db: Db
  databaseUrl: string
  /** How many BullMQ workers this process will run. */
  workers: number
  log: Logger
  /** Called when a queue that was away at the start turns out to be one not to work with. */
  onFatal(error: Error): void
}

/**
 * Opens the queue and refuses one not to work with: a Redis that may drop work, or another queue than the one a living
 * process works with. A Redis that is away is no reason to stop; it is judged when it is there.
 * @throws AppError `misconfigured`
 */
export async function openQueue({
  config,
  db,
  databaseUrl,
  workers,
  log,
  onFatal,
}: QueueOptions): Promise<QueueBackend> {
  const redis = config.REDIS_URL ? { url: config.REDIS_URL, prefix: config.QUEUE_PREFIX } : undefined

  // Once is enough: a queue that is emptied or swapped later is the dispatcher's to notice.
  let judged = false
  async function judge(backend: QueueBackend): Promise<void> {
    if (judged) return
    const findings = redis && (await checkRedis(redis))
    if (findings && findings.refusals.length > 0) {
      throw new AppError('misconfigured', `REDIS_URL: ${findings.refusals.join('; ')}`)
    }
    for (const warning of findings?.warnings ?? []) log.warn(warning)
    await refuseSecondQueue(db, backend)
    judged = true
  }

  const backend = redis ? await openRedisQueues(redis) : openPostgresQueues({ url: databaseUrl, workers })
  try {
    if (backend.ready()) await judge(backend)
    else log.warn('Redis is not reachable: work is accepted and waits in Postgres until it is')
  } catch (error) {
    await backend.close()
    throw error
  }
  backend.onReady(() => {
    judge(backend).catch((error: unknown) => {
      if (error instanceof AppError && error.code === 'misconfigured') onFatal(error)
    })
  })
  return backend
}
