#!/usr/bin/env node
import { Command, InvalidArgumentError, Option } from 'commander'
import { addArchiveCommands } from './cli/archive.ts'
import { addBackfillCommand } from './cli/backfill.ts'
import { addDriftCommand } from './cli/drift.ts'
import { addErpCommands } from './cli/erp.ts'
import { createTerminal } from './cli/terminal.ts'
import { addOriginCommands } from './cli/origins.ts'
import { addPartitionCommands } from './cli/partition.ts'
import { addSyncCommand } from './cli/sync.ts'
import { addWebhookCommands } from './cli/webhooks.ts'
import { parseConfig } from './config.ts'
import { diagnose } from './db/doctor.ts'
import { createDatabase, type Db } from './db/client.ts'
import { examine } from './db/health.ts'
import { allSites, disableDomain, enableDomain, listDomains } from './db/domains.ts'
import { uninstall } from './db/uninstall.ts'
import { AppError } from './errors.ts'
import { domains, type Domain } from './queues/define-job.ts'
import { createLogger, migrateAll, openDatabaseUrl, version } from './resources.ts'
import { serve } from './serve.ts'

const print = (line: string) => void process.stdout.write(`${line}\n`)

function oneOf(text: string): Domain {
  if (!(domains as readonly string[]).includes(text)) throw new InvalidArgumentError(`one of ${domains.join(', ')}`)
  return text as Domain
}

function siteId(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new InvalidArgumentError('a site id')
  return Number(text)
}

/** Runs a command on the configured database, starting the embedded one when none is. */
async function onDatabase(work: (db: Db, url: string) => Promise<void>): Promise<void> {
  const source = await openDatabaseUrl(parseConfig(), createLogger('warn'))
  const database = createDatabase({ url: source.url, max: 2 })
  try {
    await work(database.db, source.url)
  } finally {
    await database.close()
    await source.stop()
  }
}

const program = new Command('website-worker')
  .description(
    'Background worker of the Website Module: takes work from the main app and does it on BullMQ and PostgreSQL.',
  )
  .version(version)

program
  .command('start', { isDefault: true })
  .description('API and worker in one process')
  .action(() => serve({ api: true, worker: true }))

program
  .command('api')
  .description('only the HTTP API; run workers beside it, on one Redis')
  .action(() => serve({ api: true, worker: false }))

program
  .command('worker')
  .description('only the worker')
  .addOption(
    new Option('--only <domains>', 'take work of these domains alone, e.g. webhooks,erp').argParser((text) =>
      text.split(',').map((part) => oneOf(part.trim())),
    ),
  )
  .action((options: { only?: Domain[] }) => serve({ api: false, worker: options.only ?? true }))

program
  .command('migrate')
  .description('bring the database to this release; running it again changes nothing')
  .option('--online', 'also build the indexes of large tables, without blocking the main app')
  .action((options: { online?: boolean }) =>
    onDatabase(async (_db, url) => {
      const result = await migrateAll(url, { online: options.online ?? false, report: print })
      print(result.applied.length + result.added.length === 0 ? 'nothing to do' : 'done')
      if (result.deferred.length > 0)
        print(`large tables: run "website-worker migrate --online" to build ${result.deferred.join(', ')}`)
    }),
  )

program
  .command('doctor')
  .description('name everything in the database that is not as the worker needs it')
  .option('--db', 'also how it fares: unused indexes, dead rows, slow statements, ids that run out')
  .action((options: { db?: boolean }) =>
    onDatabase(async (db) => {
      const findings = [...(await diagnose(db)), ...(options.db ? await examine(db) : [])]
      for (const { level, what, fix } of findings) print(`${level}: ${what}\n  → ${fix}`)
      const count = findings.filter((finding) => finding.level !== 'note').length
      print(count === 0 ? 'all is well' : `${count} findings`)
      if (findings.some((finding) => finding.level === 'error')) process.exitCode = 1
    }),
  )

for (const [name, verb, change] of [
  ['enable', 'turn a domain on; work held for it is released', enableDomain],
  ['disable', 'turn a domain off; new work for it is held', disableDomain],
] as const) {
  program
    .command(name)
    .description(verb)
    .argument('<domain>', domains.join(' | '), oneOf)
    .option('--site <id>', 'for one site only', siteId)
    .action((domain: Domain, options: { site?: number }) =>
      onDatabase(async (db) => {
        await change(db, domain, options.site ?? allSites)
        print(`${domain} is ${name}d for ${options.site ? `site ${options.site}` : 'all sites'}`)
      }),
    )
}

program
  .command('domains')
  .description('show which domains are on')
  .action(() =>
    onDatabase(async (db) => {
      for (const row of await listDomains(db)) {
        print(
          `${row.domain.padEnd(14)} ${row.siteId === allSites ? 'all sites' : `site ${row.siteId}`.padEnd(9)} ${row.enabled ? 'on' : 'off'}${row.paused ? ', paused' : ''}`,
        )
      }
    }),
  )

addBackfillCommand(program, { onDatabase, terminal: createTerminal(process.stdout) })
addWebhookCommands(program, { onDatabase, terminal: createTerminal(process.stdout) })
addSyncCommand(program, { onDatabase, terminal: createTerminal(process.stdout) })
addDriftCommand(program, { onDatabase, terminal: createTerminal(process.stdout) })
addErpCommands(program, { config: parseConfig, onDatabase, terminal: createTerminal(process.stdout), version })
addOriginCommands(program, { onDatabase, terminal: createTerminal(process.stdout) })
addArchiveCommands(program, {
  archiveDir: () => parseConfig().ARCHIVE_DIR,
  terminal: createTerminal(process.stdout),
})
addPartitionCommands(program, { onDatabase, terminal: createTerminal(process.stdout) })

program
  .command('uninstall')
  .description('remove everything of the worker from the database; the main app keeps its tables and rows')
  .requiredOption('--yes', 'really do it')
  .action(() =>
    onDatabase(async (db) => {
      for (const line of await uninstall(db)) print(line)
    }),
  )

// Whoever reads what a command prints may have read enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`${error instanceof AppError ? error.message : ((error as Error).stack ?? error)}\n`)
  process.exitCode = 1
})
