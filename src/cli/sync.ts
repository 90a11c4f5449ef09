import { type Command, Argument, InvalidArgumentError } from 'commander'
import { transact, type Db } from '../db/client.ts'
import { enqueueItem } from '../db/queries/enqueue.ts'
import { forgetVersions } from '../db/queries/sync/checkpoints.ts'
import { AppError } from '../errors.ts'
import type { SyncType } from '../erp.ts'
import { syncJobs, type SyncPayload } from '../queues/sync-job.ts'
import { createProgressLine, follow, readSync } from './follow.ts'
import type { Terminal } from './terminal.ts'

export interface SyncCommandDeps {
  /** Runs a command on the configured database. */
  onDatabase(work: (db: Db) => Promise<void>): Promise<void>
  terminal: Terminal
  /** How long a command waits for a worker to take up what it asked for, ms. Default: 30000. */
  patienceMs?: number
}

interface Options {
  site: number
  full?: true
  skus?: string[]
  force?: true
  resetVersions?: true
  wait: boolean
}

const types: Readonly<Record<string, SyncType>> = { products: 'product', inventory: 'inventory', prices: 'price' }

function siteId(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('a site id')
  return Number(text)
}

function skuList(text: string): string[] {
  const skus = text
    .split(',')
    .map((sku) => sku.trim())
    .filter(Boolean)
  if (skus.length === 0 || skus.length > 1_000) throw new InvalidArgumentError('1 to 1000 SKUs, separated by commas')
  return skus
}

function payloadOf({ site, full, skus, force, resetVersions }: Options): SyncPayload {
  if (skus && (full || resetVersions)) throw new AppError('invalid', 'With --skus not everything is read')
  return {
    siteId: site,
    ...((full || resetVersions) && { mode: 'full' as const }),
    ...(skus && { skus }),
    ...(force && { force }),
  }
}

/** What a run did, in a line. */
function summary(result: unknown): string {
  const { skipped, mode, counts, drift } = (result ?? {}) as {
    skipped?: string
    mode?: string
    counts?: Record<string, unknown>
    drift?: { differing: number }
  }
  if (skipped !== undefined) return `nothing to do: ${skipped}`
  const told = Object.entries(counts ?? {}).flatMap(([word, count]) => (Number(count) > 0 ? [`${count} ${word}`] : []))
  const differing = drift && drift.differing > 0 ? [`${drift.differing} still differ`] : []
  return `${mode}: ${[...told, ...differing].join(', ') || 'nothing came'}`
}

/** `website-worker sync`: reads a stream of a site's ERP now. */
export function addSyncCommand(program: Command, { onDatabase, terminal, patienceMs = 30_000 }: SyncCommandDeps): void {
  program
    .command('sync')
    .description('bring a site in line with its ERP; a running worker does it, and this shows how far it is')
    .addArgument(new Argument('<what>', 'what to read').choices(Object.keys(types)))
    .requiredOption('--site <id>', 'of which site', siteId)
    .option('--full', 'everything, not only what changed')
    .option('--skus <list>', 'only these, separated by commas', skuList)
    .option('--force', 'also when it would change more than the brake lets pass')
    .option('--reset-versions', 'the ERP was restored from a backup: take what it says, and read everything')
    .option('--no-wait', 'only ask for it')
    .action((what: string, options: Options) =>
      onDatabase(async (db) => {
        const type = types[what]!
        const payload = payloadOf(options)
        const { workId, state, reason } = await transact(db, async (tx) => {
          if (options.resetVersions) await forgetVersions(tx, options.site, type)
          return enqueueItem(tx, syncJobs[type], payload, { rung: false })
        })
        if (!options.wait) {
          terminal.print(`job ${workId} of ${syncJobs[type]} is ${state === 'held' ? `held: ${reason}` : 'owed'}`)
          return
        }
        const onLook = createProgressLine(terminal, readSync)
        try {
          const { result } = await follow(db, syncJobs[type], workId, { onLook, patienceMs })
          terminal.print(summary(result))
        } finally {
          terminal.endDrawing()
        }
      }),
    )
}
