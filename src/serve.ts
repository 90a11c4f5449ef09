import { parseConfig } from './config.ts'
import { atMost } from './deadline.ts'
import { keepHeapSmall } from './heap.ts'
import { start, type Running, type StartOptions } from './main.ts'
import { createLogger } from './resources.ts'

function greet({ url, madeKey, backend }: Running): void {
  // Without keys it is someone trying it out; else the logs are for machines.
  if (!url || !(madeKey || process.stdout.isTTY)) return
  const lines = [
    '',
    `  website-worker listens on ${url}`,
    `  reference    ${url}/docs`,
    `  Bull Board   ${url}/admin/queues`,
    `  queue        ${backend === 'redis' ? 'Redis' : 'in the database (set REDIS_URL for production)'}`,
    '',
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
  if (madeKey)
    process.stdout.write(
      `  API_KEYS is not set. Until the next start this key works from this machine:\n  ${madeKey}\n\n`,
    )
}

/** Runs until SIGTERM or SIGINT, then ends in order; a second signal ends at once. */
export async function serve(roles: Pick<StartOptions, 'api' | 'worker'>): Promise<void> {
  keepHeapSmall()
  const config = parseConfig()
  const log = createLogger(config.LOG_LEVEL)
  let starting: Promise<Running> | undefined
  let stopping = false

  async function stop(why: string, exitCode: number) {
    if (stopping) process.exit(exitCode || 1)
    stopping = true
    log.info({ why }, 'stopping: nothing new is taken, what runs may finish')
    // What is still opening is waited for, since it has to be closed.
    const running = await atMost(10_000, starting ?? Promise.resolve(undefined)).catch(() => undefined)
    if (running && running !== 'late') await running.stop()
    log.info('stopped')
    process.exit(exitCode)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(signal, 0))

  starting = start({
    config,
    log,
    ...roles,
    onFatal: (error) => {
      log.fatal(error.message)
      void stop('it must not go on', 1)
    },
  })
  const running = await starting
  if (stopping) return
  log.info({ url: running.url, queue: running.backend, api: roles.api, worker: roles.worker }, 'started')
  greet(running)
}
