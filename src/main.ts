import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino, type Logger } from 'pino'
import { createGuard } from './clients/guard.ts'
import { createSender } from './clients/http-sender.ts'
import type { Config } from './config.ts'
import { createDatabase, type Database } from './db/client.ts'
import { startEmbeddedPostgres } from './db/embedded.ts'
import { migrate, pendingMigrations } from './db/migrate.ts'
import { packageRoot } from './db/package-root.ts'
import { registerJobs } from './db/queries/enqueue.ts'
import { AppError } from './errors.ts'
import { createApp } from './http/app.ts'
import { createBoard } from './http/board.ts'
import { processors } from './processors/index.ts'
import type { Domain } from './queues/define-job.ts'
import { catalog, configureJobs } from './queues/index.ts'
import { migrateQueueSchema, openPostgresQueues, openRedisQueues, type QueueBackend } from './work/backend.ts'
import { createBell } from './work/bell.ts'
import { createDispatcher } from './work/dispatcher.ts'
import { refuseSecondQueue } from './work/epoch.ts'
import { checkRedis } from './work/redis.ts'
import { keepSchedules } from './work/schedules.ts'
import { createMetrics } from './worker/metrics.ts'
import { startWorkers } from './worker/workers.ts'

export const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }

/** Where the zero-install database lives. */
export const dataDir = () => join(packageRoot(), '.data')

/** Structured logs on standard output; secrets never reach them. */
export function createLogger(level: string): Logger {
  return pino({
    level,
    redact: [
      'req.headers.authorization',
      'req.headers.cookie',
      '*.secret',
      '*.password',
      '*.apiKey',
      'headers.authorization',
    ],
  })
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
    await registerJobs(database.db, configureJobs())
  } finally {
    await database.close()
  }
  return result
}

async function openBackend(config: Config, url: string, workers: number, log: Logger): Promise<QueueBackend> {
  if (!config.REDIS_URL) return openPostgresQueues({ url, workers })
  const options = { url: config.REDIS_URL, prefix: config.QUEUE_PREFIX }
  const findings = await checkRedis(options)
  if (!findings) log.warn('Redis is not reachable: work is accepted and waits in Postgres until it is')
  else if (findings.refusals.length > 0)
    throw new AppError('misconfigured', `REDIS_URL: ${findings.refusals.join('; ')}`)
  for (const warning of findings?.warnings ?? []) log.warn(warning)
  return openRedisQueues(options)
}

export interface StartOptions {
  config: Config
  log: Logger
  /** Serve HTTP. Default: true. */
  api?: boolean
  /** Run jobs: all, none, or those of some domains. Default: true. */
  worker?: boolean | readonly Domain[]
  /** Called when the process can't go on, e.g. because another one works with a different queue. */
  onFatal?: (error: Error) => void
}

export interface Running {
  /** `http://host:port`; undefined without the API. */
  url: string | undefined
  databaseUrl: string
  /** The key made at start when none was configured. */
  madeKey: string | undefined
  backend: 'redis' | 'postgres'
  /** Takes nothing new, finishes what runs within 25 s, gives the rest back, and closes everything in order. */
  stop(): Promise<void>
}

/** Undoes what has been done so far, last first. */
function createReleasers(log: Logger) {
  const releasers: [string, () => Promise<unknown>][] = []
  return {
    add: (name: string, release: () => Promise<unknown>) => void releasers.push([name, release]),
    async release() {
      for (const [name, release] of releasers.toReversed()) {
        await release().catch((error: unknown) => log.warn({ part: name, err: error }, 'could not close'))
      }
    },
  }
}

/** Starts the worker: configuration in, a running process out. @throws AppError when it must not run as configured */
export async function start(options: StartOptions): Promise<Running> {
  const { config, log } = options
  const release = createReleasers(log)
  try {
    return await compose(options, release)
  } catch (error) {
    await release.release()
    throw error
  }

  async function compose(
    { api = true, worker = true, onFatal = () => {} }: StartOptions,
    releasers: typeof release,
  ): Promise<Running> {
    const webhookWaitsMs = config.WEBHOOK_RETRY_SCHEDULE
    const jobs = configureJobs({
      webhookWaitsMs,
      webhookConcurrency: config.WEBHOOK_CONCURRENCY,
    })
    const source = await openDatabaseUrl(config, log)
    releasers.add('embedded postgres', source.stop)
    const database = createDatabase({ url: source.url, max: 20 })
    releasers.add('database', database.close)
    // A connection that breaks inside a transaction fails its queries; unheard, its 'error' would also end the process.
    database.pool.on('connect', (client) => void client.on('error', () => {}))
    await refuseUnmigrated(database)
    const { db } = database
    await registerJobs(db, jobs)
    await keepSchedules(db, jobs)

    const ofDomain = (domain: Domain) => (typeof worker === 'boolean' ? worker : worker.includes(domain))
    const mine = jobs.filter((job) => ofDomain(job.domain))
    const backend = await openBackend(config, source.url, mine.length, log)
    releasers.add('queue', backend.close)
    const names = jobs.map((job) => job.name)
    const checkSameQueue = () => refuseSecondQueue(db, backend)
    if (backend.ready()) await checkSameQueue()
    else
      backend.onReady(
        () => void checkSameQueue().catch((error: unknown) => error instanceof AppError && onFatal(error)),
      )

    const bell = createBell({ db, backend, log })
    const metrics = createMetrics({ db, backend, jobs: names })
    releasers.add('rings under way', bell.settled)

    if (mine.length > 0) {
      const sender = createSender({
        guard: createGuard({ allowCidrs: config.OUTBOUND_ALLOW_CIDRS }),
        timeoutMs: config.WEBHOOK_TIMEOUT_MS,
        userAgent: `website-worker/${version}`,
      })
      releasers.add('outbound connections', sender.close)
      const processorDeps = {
        db,
        sender,
        payloadsDays: config.RETENTION_PAYLOADS_DAYS,
        retry: { ...catalog['deliver-webhook'].retry, ...(webhookWaitsMs && { waitsMs: webhookWaitsMs }) },
      }
      const workers = startWorkers(
        { db, backend, log, metrics, processorDeps },
        mine.map((definition) => ({ definition, processor: processors[definition.name] })),
      )
      releasers.add('workers', () => workers.close(25_000))
      const discover = new Map(
        mine.flatMap(({ name }) => {
          const find = processors[name].discover
          return find ? [[name, find] as const] : []
        }),
      )
      const dispatcher = createDispatcher({ db, backend, bell, jobs, discover, log })
      releasers.add('dispatcher', dispatcher.stop)
      dispatcher.start()
    }

    let url: string | undefined
    let madeKey: string | undefined
    if (api) {
      let shuttingDown = false
      if (!config.API_KEYS) madeKey = randomBytes(24).toString('base64url')
      const host = listenHost(config)
      const board = createBoard({
        db,
        bell,
        backend,
        jobs,
        users: config.BOARD_USERS ?? [],
        open: isLoopback(host),
        log,
      })
      const app = await createApp({
        db,
        bell,
        jobs,
        apiKeys: config.API_KEYS ?? [{ name: 'local', secret: madeKey ?? '', scopes: ['enqueue', 'ops'] }],
        metrics,
        queueReady: backend.ready,
        shuttingDown: () => shuttingDown,
        board,
        log,
        version,
      })
      releasers.add('http', async () => {
        shuttingDown = true
        await app.close()
      })
      url = await app.listen({ host, port: config.PORT })
    }
    return { url, databaseUrl: source.url, madeKey, backend: backend.kind, stop: releasers.release }
  }
}

const isLoopback = (host: string) => host === 'localhost' || host === '::1' || host.startsWith('127.')

function listenHost(config: Config): string {
  const host = config.HOST ?? (config.API_KEYS ? '0.0.0.0' : '127.0.0.1')
  if (!config.API_KEYS && !isLoopback(host)) {
    throw new AppError(
      'misconfigured',
      `HOST is ${host} but API_KEYS is not set: anyone who reaches it could do anything. Set API_KEYS.`,
    )
  }
  return host
}

async function refuseUnmigrated(database: Database): Promise<void> {
  const pending = await pendingMigrations(database.db)
  if (pending.length > 0) {
    throw new AppError('misconfigured', `The database lacks ${pending.join(', ')}. Run: website-worker migrate`)
  }
}
