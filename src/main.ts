import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import { createBreaker } from './clients/breaker.ts'
import { createGate } from './clients/gate.ts'
import { createCredentials } from './clients/credentials.ts'
import { createGuard } from './clients/guard.ts'
import { createSender } from './clients/http-sender.ts'
import { createJsonCaller } from './clients/json-call.ts'
import { maxPageBytes } from './clients/erp/http.ts'
import { createMailer, readSmtpUrl } from './clients/smtp.ts'
import type { Config } from './config.ts'
import { createDatabase, type DatabaseOptions, type Db } from './db/client.ts'
import { registerJobs } from './db/queries/enqueue.ts'
import { publishPages } from './db/queries/publish.ts'
import { atMost } from './deadline.ts'
import { AppError } from './errors.ts'
import { createApp } from './http/app.ts'
import { createBoard } from './http/board.ts'
import { processors, type ProcessorDeps } from './processors/index.ts'
import { createErpOpener } from './processors/sync/site-erp.ts'
import { createErpTurns } from './processors/sync/turns.ts'
import type { Domain } from './queues/define-job.ts'
import { catalog, configureJobs } from './queues/index.ts'
import { openDatabaseUrl, openQueue, refuseUnmigrated, version } from './resources.ts'
import type { QueueBackend } from './work/backend.ts'
import { createBell, type Bell } from './work/bell.ts'
import { createDispatcher } from './work/dispatcher.ts'
import { createLanePuller } from './work/lanes.ts'
import { keepSchedules } from './work/schedules.ts'
import { createBatcher } from './worker/batcher.ts'
import { createMetrics, type Metrics } from './worker/metrics.ts'
import type { AnyProcessor } from './worker/processor.ts'
import { startWorkers } from './worker/workers.ts'

/** How long runs may go on after SIGTERM. */
const workGraceMs = 20_000

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

/** What every part of a running process shares. */
interface Parts {
  config: Config
  db: Db
  /** Opens another pool, with limits of its own. */
  open(options: Omit<DatabaseOptions, 'url'>): Db
  backend: QueueBackend
  bell: Bell
  metrics: Metrics
  jobs: ReturnType<typeof configureJobs>
  log: Logger
  releasers: Releasers
}

type Releasers = ReturnType<typeof createReleasers>

/** Undoes what has been done so far, last first. */
function createReleasers(log: Logger) {
  const releasers: { name: string; release: () => Promise<unknown>; withinMs: number }[] = []
  return {
    add: (name: string, release: () => Promise<unknown>, withinMs = 3_000) =>
      void releasers.push({ name, release, withinMs }),
    async releaseAll() {
      for (const { name, release, withinMs } of releasers.splice(0).toReversed()) {
        const ended = await atMost(withinMs, release()).catch((err: unknown) =>
          log.warn({ part: name, err }, 'could not close'),
        )
        if (ended === 'late') log.warn({ part: name }, 'did not close in time; going on')
      }
    },
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

/** Workers for some jobs, and the dispatcher for all. */
function startWork(parts: Parts, mine: Parts['jobs']): void {
  const { config, db, backend, bell, metrics, jobs, log, releasers } = parts
  const guard = createGuard({ allowCidrs: config.OUTBOUND_ALLOW_CIDRS })
  const sender = createSender({
    guard,
    timeoutMs: config.WEBHOOK_TIMEOUT_MS,
    userAgent: `website-worker/${version}`,
  })
  releasers.add('outbound connections', sender.close)
  // A lead must not be lost on a connection that its CRM just closed.
  const caller = createJsonCaller({
    guard,
    timeoutMs: config.CRM_TIMEOUT_MS,
    userAgent: `website-worker/${version}`,
    freshConnections: true,
  })
  releasers.add('connections to CRMs', caller.close)
  const smtp = config.SMTP_URL === undefined ? undefined : readSmtpUrl(config.SMTP_URL)
  const { ERP_TOKEN = '', ERP_PASSWORD = '', ERP_WEBHOOK_SECRET = '' } = config
  const credentials = createCredentials(config.CREDENTIALS, [
    ...(smtp?.auth ? [`${smtp.auth.user}:${smtp.auth.pass}`] : []),
    ...[ERP_TOKEN, ERP_PASSWORD, ...ERP_WEBHOOK_SECRET.split(' ')].filter(Boolean),
  ])
  // Pages may be large; reading one again does no harm.
  const erpCaller = createJsonCaller({
    guard,
    timeoutMs: config.ERP_TIMEOUT_MS,
    userAgent: `website-worker/${version}`,
    maxBytes: maxPageBytes,
  })
  releasers.add('connections to ERPs', erpCaller.close)
  const retry = jobs.find((job) => job.name === 'deliver-webhook')?.retry ?? catalog['deliver-webhook'].retry
  // The rows of one run that someone has locked must not hold up the others.
  const itemsDb = parts.open({ max: 8, lockTimeoutMs: 200, byKey: true })
  // A run may write much at once, and waits its turn where someone else writes.
  const syncDb = parts.open({ max: 16, lockTimeoutMs: 10_000, statementTimeoutMs: 300_000 })
  const environment = { provider: config.ERP_PROVIDER, url: config.ERP_URL, token: config.ERP_TOKEN }
  const processorDeps: ProcessorDeps = {
    db,
    sender,
    leads: { caller, credentials, timeoutMs: config.CRM_TIMEOUT_MS, settleMs: config.CRM_SETTLE_MS },
    mail: {
      mailer: createMailer({ guard }),
      credentials,
      ...(smtp && { server: smtp }),
      ...(config.MAIL_FROM && { from: config.MAIL_FROM }),
    },
    gate: createGate({ capacity: config.WEBHOOK_CONCURRENCY }),
    breaker: createBreaker(),
    payloadsDays: config.RETENTION_PAYLOADS_DAYS,
    deliveriesDays: config.RETENTION_DELIVERIES_DAYS,
    cartsDays: config.RETENTION_CARTS_DAYS,
    syncLogsDays: config.RETENTION_SYNC_LOGS_DAYS,
    ...(config.ARCHIVE_DIR !== undefined &&
      config.ARCHIVE_AFTER_MONTHS !== undefined && {
        archive: { dir: config.ARCHIVE_DIR, afterMonths: config.ARCHIVE_AFTER_MONTHS },
      }),
    retry,
    publishPage: createBatcher({ run: (pageIds: number[]) => publishPages(itemsDb, pageIds), concurrency: 2 }),
    pagePublished: metrics.pagePublished,
    // Days of a large site may take longer than anything else here.
    rollups: { db: parts.open({ max: 6, statementTimeoutMs: 600_000 }) },
    sync: {
      db: syncDb,
      open: createErpOpener(environment, {
        caller: erpCaller,
        credentials,
        turns: createErpTurns({ db }),
        userAgent: `website-worker/${version}`,
        timeoutMs: config.ERP_TIMEOUT_MS,
      }),
      hasDefault: config.ERP_URL !== undefined,
      erpCalled: metrics.erpCalled,
      rowsSynced: metrics.rowsSynced,
    },
  }
  const workers = startWorkers(
    { db, itemsDb, backend, bell, log, metrics, processorDeps },
    mine.map((definition) => ({ definition, processor: processors[definition.name] })),
  )
  releasers.add('workers', () => workers.close(workGraceMs), workGraceMs + 4_000)
  const discover = new Map(
    jobs.flatMap(({ name }) => {
      const find = processors[name].discover
      return find ? [[name, (db: Db) => find(db, processorDeps)] as const] : []
    }),
  )
  // Whoever holds a row must not hold up everything else.
  const dispatcherDb = parts.open({ max: 2, lockTimeoutMs: 500, statementTimeoutMs: 20_000 })
  const lanesOf = new Map(
    jobs.flatMap(({ name }) => {
      const find = (processors[name] as AnyProcessor).lanes
      return find ? [[name, find] as const] : []
    }),
  )
  const dispatcher = createDispatcher({ db: dispatcherDb, backend, bell, jobs, discover, lanesOf, log })
  releasers.add('dispatcher', dispatcher.stop)
  dispatcher.start()
}

const listenFailures: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else does already. Set PORT',
  EADDRNOTAVAIL: 'this machine has no such address. Set HOST',
  EACCES: 'this user may not. Set PORT to one above 1023',
  ENOTFOUND: 'there is no such host. Set HOST',
}

async function startApi(parts: Parts, host: string): Promise<{ url: string; madeKey: string | undefined }> {
  const db = parts.open({ max: 10, lockTimeoutMs: 2_000, statementTimeoutMs: 15_000 })
  const { config, backend, bell, metrics, jobs, log, releasers } = parts
  const madeKey = config.API_KEYS ? undefined : randomBytes(24).toString('base64url')
  let shuttingDown = false
  const lanes = createLanePuller({ db, bell, log })
  const app = await createApp({
    db,
    bell,
    pullLane: lanes.pull,
    jobs,
    apiKeys: config.API_KEYS ?? [{ name: 'local', secret: madeKey ?? '', scopes: ['enqueue', 'ops'] }],
    erpSecret: config.ERP_WEBHOOK_SECRET,
    metrics,
    queueReady: backend.ready,
    shuttingDown: () => shuttingDown,
    board: createBoard({ db, bell, backend, jobs, users: config.BOARD_USERS ?? [], open: isLoopback(host), log }),
    log,
    version,
  })
  releasers.add('http', async () => {
    shuttingDown = true
    await app.close()
    await lanes.settled()
  })
  try {
    return { url: await app.listen({ host, port: config.PORT }), madeKey }
  } catch (error) {
    const reason = listenFailures[(error as NodeJS.ErrnoException).code ?? '']
    if (!reason) throw error
    throw new AppError('misconfigured', `Can't listen on ${host}, port ${config.PORT}: ${reason}`)
  }
}

async function compose(options: StartOptions, releasers: Releasers): Promise<Running> {
  const { config, log, api = true, worker = true, onFatal = () => {} } = options
  const host = listenHost(config)
  const jobs = configureJobs({
    webhookWaitsMs: config.WEBHOOK_RETRY_SCHEDULE,
    // Twice as many runs as requests: those that wait for a place at one receiver leave places for the others.
    webhookConcurrency: 2 * config.WEBHOOK_CONCURRENCY,
  })
  const mine = jobs.filter((job) => (typeof worker === 'boolean' ? worker : worker.includes(job.domain)))
  if (!api && mine.length === 0) throw new AppError('misconfigured', 'There is no job in these domains')

  const source = await openDatabaseUrl(config, log)
  releasers.add('embedded postgres', source.stop, 12_000)
  const open = (options: Omit<DatabaseOptions, 'url'>) => {
    const database = createDatabase({ url: source.url, ...options })
    releasers.add('database', database.close)
    return database.db
  }
  const db = open({ max: 12 })
  await refuseUnmigrated(db)
  await registerJobs(db, jobs)
  await keepSchedules(db, jobs)

  const backend = await openQueue({ config, db, databaseUrl: source.url, workers: mine.length, log, onFatal })
  releasers.add('queue', backend.close)
  const bell = createBell({ db, backend, log })
  releasers.add('rings under way', bell.settled)
  const metrics = createMetrics({ db, backend, jobs: jobs.map((job) => job.name) })
  const parts: Parts = { config, db, open, backend, bell, metrics, jobs, log, releasers }
  if (mine.length > 0) startWork(parts, mine)
  const served = api ? await startApi(parts, host) : { url: undefined, madeKey: undefined }
  return { ...served, databaseUrl: source.url, backend: backend.kind, stop: releasers.releaseAll }
}

/** Starts the worker: configuration in, a running process out. @throws AppError when it must not run as configured */
export async function start(options: StartOptions): Promise<Running> {
  const releasers = createReleasers(options.log)
  try {
    return await compose(options, releasers)
  } catch (error) {
    await releasers.releaseAll()
    throw error
  }
}
