import { join } from 'node:path'
import { parseConfig } from '../config.ts'
import { createDatabase } from '../db/client.ts'
import { startEmbeddedPostgres } from '../db/embedded.ts'
import { start } from '../main.ts'
import { createLogger, dataDir, migrateAll } from '../resources.ts'
import { demoAnalytics } from './analytics.ts'
import { demoPublishing } from './publishing.ts'
import { demoLeads } from './leads.ts'
import { demoSync } from './sync.ts'
import { table } from './table.ts'
import { demoMaintenance, demoWebhooks, type DemoContext } from './webhooks.ts'

const say = (text: string) => void process.stdout.write(`${text}\n`)
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const until: DemoContext['until'] = async (check) => {
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; await pause(100)) {
    const found = await check()
    if (found !== undefined) return found
  }
  return undefined
}

/** Everything on this machine alone, one of each job driven through; true when all did their work. */
async function demo(stayOpen: boolean): Promise<boolean> {
  say(
    'website-worker demo: an embedded PostgreSQL, the worker, four webhook receivers, an ERP, a CRM and a mail server, all on this machine.\n',
  )
  const embedded = await startEmbeddedPostgres({ dataDir: join(dataDir(), 'demo') })
  await migrateAll(embedded.url)
  const config = parseConfig({
    DATABASE_URL: embedded.url,
    PORT: '0',
    OUTBOUND_ALLOW_CIDRS: '127.0.0.0/8',
    WEBHOOK_RETRY_SCHEDULE: '0s,1s,5s',
    CRM_TIMEOUT_MS: '2000',
    CRM_SETTLE_MS: '1000',
    LOG_LEVEL: 'warn',
  })
  const running = await start({ config, log: createLogger('warn') })
  const database = createDatabase({ url: embedded.url, max: 2 })
  let closeReceivers = async () => {}
  const close = async () => {
    await running.stop()
    await closeReceivers()
    await database.close()
    await embedded.stop()
  }
  try {
    const context = { db: database.db, apiUrl: running.url ?? '', apiKey: running.madeKey ?? '', until }
    const webhooks = await demoWebhooks(context)
    closeReceivers = webhooks.close
    const leads = await demoLeads(context)
    closeReceivers = async () => void (await Promise.all([webhooks.close(), leads.close()]))
    const sync = await demoSync(context)
    closeReceivers = async () => void (await Promise.all([webhooks.close(), leads.close(), sync.close()]))
    const rows = [
      ...webhooks.rows,
      ...(await demoPublishing(context)),
      ...leads.rows,
      ...sync.rows,
      ...(await demoAnalytics(context)),
      ...(await demoMaintenance(context)),
    ]
    say(
      table(
        ['', 'job', 'what', 'result'],
        rows.map((row) => [row.ok ? '✓' : '✗', row.job, row.what, row.result]),
      ),
    )
    const ok = rows.every((row) => row.ok)
    say(ok ? '\nEverything did its work.' : '\nSomething did not do its work.')
    if (stayOpen) {
      say(
        `\n  Bull Board   ${running.url}/admin/queues\n  Reference    ${running.url}/docs\n  API key      ${running.madeKey}\n\nCtrl-C ends it.`,
      )
      await new Promise((resolve) => {
        process.once('SIGINT', resolve)
        process.once('SIGTERM', resolve)
      })
    }
    return ok
  } finally {
    await close()
  }
}

demo(!process.argv.includes('--exit')).then(
  (ok) => {
    process.exitCode = ok ? 0 : 1
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  },
)
