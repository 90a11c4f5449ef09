import { type Command, InvalidArgumentError } from 'commander'
import { originLimitsSchema } from '../client/schemas.ts'
import type { Db } from '../db/client.ts'
import { findLane, listLanes, type LaneState } from '../db/queries/lane-limits.ts'
import { AppError } from '../errors.ts'
import { readOrigin, resetOrigin, setOrigin } from '../http/origins.ts'
import type { Terminal } from './terminal.ts'

export interface OriginCommandDeps {
  /** Runs a command on the configured database. */
  onDatabase(work: (db: Db) => Promise<void>): Promise<void>
  terminal: Terminal
}

const pageSize = 200

type Limit = number | 'none'

function limit(text: string): Limit {
  if (text === 'none') return text
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('a number, or none')
  return Number(text)
}

function limitWords({ limits }: LaneState): string {
  if (!limits) return 'no limits of its own'
  const { maxConcurrent, requestsPerSecond } = limits
  const words = [
    maxConcurrent === null ? [] : [`${maxConcurrent} at a time`],
    requestsPerSecond === null ? [] : [`${requestsPerSecond} a second`],
  ].flat()
  return words.length > 0 ? words.join(', ') : 'unlimited'
}

function originLine(state: LaneState): string {
  const { origin, breaker, openUntil, parked, inQueue } = state
  const until = openUntil ? ` until ${openUntil.toISOString().slice(0, 19).replace('T', ' ')}` : ''
  return [
    origin.padEnd(40),
    limitWords(state),
    `breaker ${breaker}${until}`,
    `${parked} parked`,
    `${inQueue} in the queue`,
  ].join('  ')
}

/** `website-worker origins …`: what webhooks are sent to, and how much of it at a time. Times are UTC. */
export function addOriginCommands(program: Command, { onDatabase, terminal: { print } }: OriginCommandDeps): void {
  const origins = program.command('origins').description('look at what webhooks are sent to, limit it')
  const named = ['<origin>', 'e.g. https://shop.example; * is every origin without limits of its own'] as const

  origins
    .command('list')
    .description('list origins that have limits, or that deliveries wait for')
    .action(() =>
      onDatabase(async (db) => {
        for (let after = '', full = true; full;) {
          const page = await listLanes(db, after, pageSize)
          for (const state of page) print(originLine(state))
          if (after === '' && page.length === 0) print('none')
          full = page.length === pageSize
          after = page.at(-1)?.origin ?? after
        }
      }),
    )

  origins
    .command('show')
    .description('an origin, its limits and how it fares')
    .argument(...named)
    .action((text: string) =>
      onDatabase(async (db) => print(originLine(await findLane(db, await readOrigin(db, text))))),
    )

  origins
    .command('set')
    .description('limit what an origin is sent, in place of the limits it had; "none" is unlimited')
    .argument(...named)
    .option('--max-concurrent <n>', 'requests at a time, over all processes: 1 to 1000', limit)
    .option('--per-second <n>', 'requests a second: 0.01 to 10000', limit)
    .action((text: string, { maxConcurrent, perSecond }: { maxConcurrent?: Limit; perSecond?: Limit }) =>
      onDatabase(async (db) => {
        const parsed = originLimitsSchema.safeParse({
          maxConcurrent: maxConcurrent === 'none' ? null : maxConcurrent,
          requestsPerSecond: perSecond === 'none' ? null : perSecond,
        })
        if (!parsed.success) {
          const [issue] = parsed.error.issues
          if (issue?.code === 'custom') throw new AppError('invalid', 'Give --max-concurrent, --per-second or both')
          const option = issue?.path[0] === 'maxConcurrent' ? '--max-concurrent' : '--per-second'
          throw new AppError('invalid', `${option}: ${issue?.message}`)
        }
        const { maxConcurrent: most = null, requestsPerSecond = null } = parsed.data
        print(originLine(await setOrigin(db, text, { maxConcurrent: most, requestsPerSecond })))
      }),
    )

  origins
    .command('reset')
    .description("take an origin's own limits away")
    .argument(...named)
    .action((text: string) => onDatabase(async (db) => print(originLine(await resetOrigin(db, text)))))
}
