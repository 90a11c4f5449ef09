import { type Command, InvalidArgumentError } from 'commander'
import type { Db } from '../db/client.ts'
import { withMaintenanceConnection } from '../db/ddl.ts'
import { type ConvertOptions, enablePartitions, finishPartitions, revertPartitions } from '../db/partitions/convert.ts'
import type { CopyProgress } from '../db/partitions/copy.ts'
import { partitionable, partitionedTables, type PartitionedTable } from '../db/partitions/names.ts'
import { type PartitionStatus, readPartitionStatus } from '../db/partitions/status.ts'
import type { Terminal } from './terminal.ts'

export interface PartitionCommandDeps {
  /** Runs a command on the configured database. */
  onDatabase(work: (db: Db, url: string) => Promise<void>): Promise<void>
  terminal: Terminal
}

const width = 30

function tableOf(text: string): PartitionedTable {
  if (Object.hasOwn(partitionable, text)) return partitionable[text as keyof typeof partitionable]
  throw new InvalidArgumentError(`one of ${Object.keys(partitionable).join(', ')}`)
}

/** Shows how far a conversion is: a bar that is drawn over on a terminal, else a line for every tenth. */
function createBar(table: string, { print, draw }: Terminal): (progress: CopyProgress) => void {
  let shown = ''
  return ({ step, percent }) => {
    const filled = Math.floor((percent * width) / 100)
    const line = draw
      ? `${table} [${'#'.repeat(filled)}${'-'.repeat(width - filled)}] ${percent} % ${step}`
      : `${table}: ${Math.floor(percent / 10) * 10} % ${step}`
    if (line === shown) return
    shown = line
    if (draw) draw(line)
    else print(line)
  }
}

function statusLine({ table, isPartitioned, conversion, months, defaultRows, changes }: PartitionStatus): string {
  const form = isPartitioned
    ? `partitioned by month, ${months.length} partitions from ${months[0]?.slice(0, 7)} to ${months.at(-1)?.slice(0, 7)}`
    : 'not partitioned'
  const words = {
    copying: `being converted: go on with "partition enable", or take it back with "partition revert"`,
    swapped:
      conversion && conversion.foreignKeys.length > 0
        ? 'foreign keys are yet to be checked: go on with "partition enable"'
        : 'the plain table is kept: "partition finish" drops it, "partition revert" goes back to it',
    reverted: 'taken back, all but cleaned up: "partition revert" again',
  }
  return [
    `${table}: ${form}`,
    ...(defaultRows > 0
      ? [`${defaultRows}${defaultRows === 100_000 ? ' or more' : ''} rows in the default partition`]
      : []),
    ...(conversion ? [words[conversion.phase], `${changes} changes to carry over`] : []),
  ].join('; ')
}

type Verb = (db: Db, table: PartitionedTable, options: ConvertOptions) => Promise<unknown>

const verbs: readonly [name: string, description: string, work: Verb, done: string][] = [
  [
    'enable',
    'convert to monthly partitions while the main app goes on; can be stopped, run again, and taken back until "finish"',
    enablePartitions,
    'is partitioned. The plain table is kept, and can be gone back to, until: website-worker partition finish',
  ],
  ['revert', 'go back to the plain table, with everything written since', revertPartitions, 'is a plain table again'],
  ['finish', 'drop the plain table; from then on there is no way back', finishPartitions, 'is finished'],
]

/** `website-worker partition …`: pageviews and events in monthly partitions. */
export function addPartitionCommands(program: Command, { onDatabase, terminal }: PartitionCommandDeps): void {
  const partition = program.command('partition').description('keep pageviews and events in monthly partitions')
  for (const [name, description, work, done] of verbs) {
    partition
      .command(name)
      .description(description)
      .argument('[table]', `${Object.keys(partitionable).join(' | ')}; default: both`, tableOf)
      .action((table: PartitionedTable | undefined) =>
        onDatabase((_db, url) =>
          withMaintenanceConnection(url, terminal.print, async (db) => {
            for (const each of table ? [table] : partitionedTables) {
              await work(db, each, { onProgress: createBar(each, terminal) })
              terminal.print(`${each} ${done}`)
            }
          }),
        ),
      )
  }
  partition
    .command('status')
    .description('show which tables are partitioned, and conversions under way')
    .action(() =>
      onDatabase(async (db) => {
        for (const status of await readPartitionStatus(db)) terminal.print(statusLine(status))
      }),
    )
}
