import { type Command, InvalidArgumentError } from 'commander'
import type { Db } from '../db/client.ts'
import { countOwableLeads, oweLeads, type BackfillScope } from '../db/queries/backfill-submissions.ts'
import { findSwitch } from '../db/queries/switches.ts'
import { AppError } from '../errors.ts'
import type { Domain } from '../queues/define-job.ts'
import type { Terminal } from './terminal.ts'

/** How the past of a job is owed: what existed before its domain was enabled, or failed since. */
interface Backfill {
  domain: Domain
  /** What is counted. */
  what: string
  count(db: Db, scope: BackfillScope): Promise<number>
  /** Owes it; returns how many. */
  owe(db: Db, scope: BackfillScope): Promise<number>
}

/** The jobs that have a past to owe. */
const backfills: Readonly<Record<string, Backfill>> = {
  'create-lead': { domain: 'leads', what: 'new submissions', count: countOwableLeads, owe: oweLeads },
}

export interface BackfillCommandDeps {
  /** Runs a command on the configured database. */
  onDatabase(work: (db: Db) => Promise<void>): Promise<void>
  terminal: Pick<Terminal, 'print'>
}

function backfillOf(job: string): Backfill {
  const found = Object.hasOwn(backfills, job) ? backfills[job] : undefined
  if (!found) throw new InvalidArgumentError(`one of ${Object.keys(backfills).join(', ')}`)
  return found
}

function siteId(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('a site id')
  return Number(text)
}

function instant(text: string): Date {
  const isInstant = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text)
  const at = new Date(text)
  if (!isInstant || Number.isNaN(at.getTime()))
    throw new InvalidArgumentError('a day like 2026-03-01 (UTC), or an instant like 2026-03-01T12:00:00Z')
  return at
}

/** `website-worker backfill <job>`: owes what discovery leaves alone. */
export function addBackfillCommand(program: Command, { onDatabase, terminal: { print } }: BackfillCommandDeps): void {
  program
    .command('backfill')
    .description('owe what existed before a domain was enabled')
    .argument('<job>', Object.keys(backfills).join(' | '), backfillOf)
    .requiredOption('--site <id>', 'of one site', siteId)
    .option('--since <instant>', 'only what was written at or after, e.g. 2026-03-01', instant)
    .option('--dry-run', 'only say how much that is')
    .action((backfill: Backfill, options: { site: number; since?: Date; dryRun?: boolean }) =>
      onDatabase(async (db) => {
        const { domain, what } = backfill
        const scope = { siteId: options.site, since: options.since ?? null }
        const site = await findSwitch(db, domain, options.site)
        if (!site) throw new AppError('not_found', `There is no site ${options.site}`)
        if (options.dryRun) {
          print(`${await backfill.count(db, scope)} ${what} would be owed; nothing was changed`)
          return
        }
        print(`${await backfill.owe(db, scope)} ${what} are owed`)
        if (site.holds !== null) print(`they wait: ${site.holds}. See: website-worker domains`)
      }),
    )
}
