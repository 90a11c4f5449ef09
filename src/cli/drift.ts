import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Db } from '../db/client.ts'
import { enqueueItem } from '../db/queries/enqueue.ts'
import type { Drift } from '../db/queries/sync/audit.ts'
import { syncedStreams, type SyncedStream } from '../db/queries/sync/audit-streams.ts'
import { AppError } from '../errors.ts'
import type { SyncType } from '../erp.ts'
import { syncJobs } from '../queues/sync-job.ts'
import { createProgressLine, follow, readSync } from './follow.ts'
import type { Terminal } from './terminal.ts'

export interface DriftCommandDeps {
  /** Runs a command on the configured database. */
  onDatabase(work: (db: Db) => Promise<void>): Promise<void>
  terminal: Terminal
  /** How long a command waits for a worker to take up what it asked for, ms. Default: 30000. */
  patienceMs?: number
}

const types: readonly SyncType[] = ['product', 'inventory', 'price']

function siteId(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('a site id')
  return Number(text)
}

/** The columns of a line of the table. */
const columns = (first: readonly [unknown, unknown], ...rest: readonly unknown[]) =>
  [String(first[0]).padEnd(8), String(first[1]).padEnd(9), ...rest.map((cell) => String(cell).padStart(9))].join('  ')

interface Result {
  drift?: Drift
  skipped?: string
}

/** `website-worker drift`: compares sites with their ERPs, and changes nothing. */
export function addDriftCommand(
  program: Command,
  { onDatabase, terminal, patienceMs = 30_000 }: DriftCommandDeps,
): void {
  const { print } = terminal

  /** What the comparison came to, or why there is none. */
  async function compare(db: Db, { siteId, type }: SyncedStream): Promise<Result | Error> {
    const job = syncJobs[type]
    const onLook = createProgressLine({ ...terminal, print: () => {} }, (progress) => {
      const far = readSync(progress)
      return typeof far === 'string' ? `site ${siteId}, ${type}: ${far}` : far
    })
    try {
      const { workId } = await enqueueItem(db, job, { siteId, mode: 'full', audit: true }, { rung: false })
      const { result } = await follow(db, job, workId, { onLook, patienceMs })
      return (result ?? {}) as Result
    } catch (error) {
      if (error instanceof AppError) return error
      throw error
    }
  }

  program
    .command('drift')
    .description(
      'count what differs between sites and their ERPs; a running worker reads everything, and nothing is changed',
    )
    .option('--site <id>', 'of one site (default: of every site that was synced)', siteId)
    .addOption(new Option('--type <type>', 'of one stream').choices(types))
    .action((options: { site?: number; type?: SyncType }) =>
      onDatabase(async (db) => {
        const streams = await syncedStreams(db, options)
        if (streams.length === 0) throw new AppError('not_found', 'Nothing of that was ever synced')
        print(columns(['site', 'type'], 'in ERP', 'in shop', 'compared', 'differing'))
        let wrong = 0
        let failed = 0
        for (const stream of streams) {
          const result = await compare(db, stream)
          terminal.endDrawing()
          const name = [stream.siteId, stream.type] as const
          if (result instanceof Error || !result.drift) {
            failed++
            print(`${columns(name)}  ${result instanceof Error ? result.message : (result.skipped ?? 'not compared')}`)
            continue
          }
          const { erp, shop, compared, differing } = result.drift
          wrong += differing
          print(columns(name, erp, shop, compared, differing))
        }
        if (wrong > 0)
          throw new AppError('conflict', `${wrong} rows differ; "website-worker sync" with --full brings them in line`)
        if (failed > 0) throw new AppError('unavailable', `${failed} of ${streams.length} could not be compared`)
      }),
    )
}
