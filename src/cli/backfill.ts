import { type Command, InvalidArgumentError } from 'commander'
import type { Db } from '../db/client.ts'
import { countOwableLeads, oweLeads, type BackfillScope } from '../db/queries/backfill-submissions.ts'
import { countPast } from '../db/queries/rollups/past.ts'
import { findSwitch } from '../db/queries/switches.ts'
import { AppError } from '../errors.ts'
import type { Domain } from '../queues/define-job.ts'
import { askRollUp, watchRollUp } from './rollups.ts'
import type { Terminal } from './terminal.ts'

/** How the past of a job is owed: what existed before its domain was enabled, or failed since. */
interface Backfill {
  domain: Domain
  /** What there is, e.g. `3 new submissions`. */
  count(db: Db, scope: BackfillScope): Promise<string>
  /** Owes it; returns what came of that, and for one work item that stands for all of it, how to watch it. */
  owe(
    db: Db,
    scope: BackfillScope,
  ): Promise<{ said: string; watch?: (terminal: Terminal, patienceMs: number) => Promise<void> }>
}

/** The jobs that have a past to owe. */
const backfills: Readonly<Record<string, Backfill>> = {
  'create-lead': {
    domain: 'leads',
    count: async (db, scope) => `${await countOwableLeads(db, scope)} new submissions`,
    owe: async (db, scope) => ({ said: `${await oweLeads(db, scope)} new submissions are owed` }),
  },
  'roll-up-analytics': {
    domain: 'rollups',
    async count(db, scope) {
      const { pageviews, events } = await countPast(db, scope)
      return `${pageviews} page views and ${events} events`
    },
    async owe(db, scope) {
      const workId = await askRollUp(db, scope)
      return {
        said: `job ${workId} counts what was written`,
        watch: (terminal, patienceMs) => watchRollUp(db, workId, terminal, patienceMs),
      }
    },
  },
}

export interface BackfillCommandDeps {
  /** Runs a command on the configured database. */
  onDatabase(work: (db: Db) => Promise<void>): Promise<void>
  terminal: Terminal
  /** How long a command waits for a worker to take up what it asked for, ms. Default: 30000. */
  patienceMs?: number
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
export function addBackfillCommand(
  program: Command,
  { onDatabase, terminal, patienceMs = 30_000 }: BackfillCommandDeps,
): void {
  const { print } = terminal
  program
    .command('backfill')
    .description('owe what existed before a domain was enabled')
    .argument('<job>', Object.keys(backfills).join(' | '), backfillOf)
    .requiredOption('--site <id>', 'of one site', siteId)
    .option('--since <instant>', 'only what was written at or after, e.g. 2026-03-01', instant)
    .option('--dry-run', 'only say how much that is')
    .option('--no-wait', "don't show how far it is")
    .action((backfill: Backfill, options: { site: number; since?: Date; dryRun?: boolean; wait: boolean }) =>
      onDatabase(async (db) => {
        const { domain } = backfill
        const scope = { siteId: options.site, since: options.since ?? null }
        const site = await findSwitch(db, domain, options.site)
        if (!site) throw new AppError('not_found', `There is no site ${options.site}`)
        if (options.dryRun) {
          print(`${await backfill.count(db, scope)} would be owed; nothing was changed`)
          return
        }
        const { said, watch } = await backfill.owe(db, scope)
        print(said)
        if (site.holds !== null)
          print(`${watch ? 'it waits' : 'they wait'}: ${site.holds}. See: website-worker domains`)
        else if (watch && options.wait) await watch(terminal, patienceMs)
      }),
    )
}
