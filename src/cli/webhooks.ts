import { type Command, InvalidArgumentError, Option } from 'commander'
import type { PingResult, ReplayResult } from '../client/views.ts'
import { deliveryStatuses, replayableStatuses, replayRequestSchema } from '../client/schemas.ts'
import type { Db } from '../db/client.ts'
import {
  findDelivery,
  listAttempts,
  listDeliveries,
  type Delivery,
  type DeliveryFilter,
  type DeliveryStatus,
} from '../db/queries/deliveries.ts'
import { findWebhook } from '../db/queries/webhooks.ts'
import { AppError } from '../errors.ts'
import { viewWebhook } from '../http/routes/webhooks.ts'
import { askPing, askReplay, cancelDelivery, cancelPending, resendDelivery } from '../http/webhook-actions.ts'
import type { ItemDeps } from '../http/items.ts'
import { createProgressLine, follow, readReplay } from './follow.ts'
import type { Terminal } from './terminal.ts'

export interface WebhookCommandDeps {
  /** Runs a command on the configured database. */
  onDatabase(work: (db: Db) => Promise<void>): Promise<void>
  terminal: Terminal
  /** How long a command waits for a worker to take up what it asked for, ms. Default: 30000. */
  patienceMs?: number
}

const by = 'the command line'

/** The dispatcher of whichever worker runs finds what is owed. */
const withoutBell = (db: Db): ItemDeps => ({
  db,
  bell: { ready: () => false, ring: () => {}, ringNow: async () => {}, settled: async () => {} },
})

function rowId(text: string): number {
  const id = Number(text)
  if (!/^[1-9]\d{0,9}$/.test(text) || id > 2_147_483_647)
    throw new InvalidArgumentError('an id is a whole number from 1')
  return id
}

function rowCount(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('a number from 1 to 999999')
  return Number(text)
}

const time = (at: Date | null) => at?.toISOString().slice(0, 19).replace('T', ' ') ?? '-'

/** Only what fits into one line: an answer may hold anything. */
const oneLine = (text: string | null, most = 100) => {
  const line = (text ?? '').replaceAll(/\p{Cc}+/gu, ' ')
  return line.length > most ? `${line.slice(0, most)}…` : line
}

function deliveryLine(delivery: Delivery): string {
  const { id, createdAt, status, attempts, statusCode, event, error, reason } = delivery
  const parts = [String(id).padEnd(9), time(createdAt), status.padEnd(9), `${attempts}×`.padEnd(4), statusCode ?? '---']
  return [...parts, event ?? '-', oneLine(reason ?? error)].join('  ').trimEnd()
}

/** `name: value` lines, for what has a value. */
function* fields(values: Readonly<Record<string, unknown>>): Generator<string> {
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined) continue
    yield `${name}: ${value instanceof Date ? time(value) : oneLine(String(value), 2_000)}`
  }
}

async function demandDelivery(db: Db, id: number): Promise<Delivery> {
  const delivery = await findDelivery(db, id)
  if (!delivery) throw new AppError('not_found', `There is no delivery ${id}`)
  return delivery
}

/** `website-worker webhooks …`: the log, and what the API can do with it. Times are UTC. */
export function addWebhookCommands(program: Command, deps: WebhookCommandDeps): void {
  const { terminal, onDatabase, patienceMs = 30_000 } = deps
  const { print } = terminal
  const webhooks = program.command('webhooks').description('look at webhooks and deliveries, send again, cancel, test')

  webhooks
    .command('deliveries')
    .description('list deliveries, newest first')
    .option('--webhook <id>', 'of one webhook', rowId)
    .option('--site <id>', 'of all webhooks of a site', rowId)
    .addOption(new Option('--status <status>', 'only those that stand so').choices(deliveryStatuses))
    .option('--limit <n>', 'how many at most', rowCount, 50)
    .action((options: { webhook?: number; site?: number; status?: DeliveryStatus; limit: number }) =>
      onDatabase(async (db) => {
        const { webhook, site, status, limit } = options
        if ((webhook === undefined) === (site === undefined)) {
          throw new AppError('invalid', 'Say whose: either --webhook <id> or --site <id>')
        }
        const of = webhook === undefined ? { siteId: site! } : { webhookId: webhook }
        const found = await printDeliveries(db, { of, status, limit })
        if (found === 0) print('none')
      }),
    )

  async function printDeliveries(db: Db, filter: DeliveryFilter): Promise<number> {
    let found = 0
    for (let before: number | null | undefined; before !== null && found < filter.limit;) {
      const page = await listDeliveries(db, { ...filter, before, limit: Math.min(200, filter.limit - found) })
      for (const delivery of page.items) print(deliveryLine(delivery))
      found += page.items.length
      before = page.next
    }
    return found
  }

  webhooks
    .command('show')
    .description('a webhook and how it fares')
    .argument('<webhookId>', 'id of the webhook', rowId)
    .action((id: number) =>
      onDatabase(async (db) => {
        const row = await findWebhook(db, id)
        if (!row) throw new AppError('not_found', `There is no webhook ${id}`)
        for (const line of fields(viewWebhook(row))) print(line)
      }),
    )

  webhooks
    .command('delivery')
    .description('a delivery and each of its requests')
    .argument('<deliveryId>', 'id of the delivery', rowId)
    .action((id: number) =>
      onDatabase(async (db) => {
        const { workId, ...delivery } = await demandDelivery(db, id)
        for (const line of fields({ ...delivery, job: workId })) print(line)
        for (const { attempt, at, statusCode, durationMs, error, trigger } of await listAttempts(db, id)) {
          print(
            `  attempt ${attempt}  ${time(at)}  ${statusCode ?? '---'}  ${durationMs} ms  ${trigger}  ${oneLine(error)}`.trimEnd(),
          )
        }
      }),
    )

  for (const [name, description, change] of [
    ['retry', 'send a delivery again, or now', resendDelivery],
    ['cancel', "don't send a delivery", cancelDelivery],
  ] as const) {
    webhooks
      .command(name)
      .description(description)
      .argument('<deliveryId>', 'id of the delivery', rowId)
      .action((id: number) =>
        onDatabase(async (db) => {
          await change(withoutBell(db), await demandDelivery(db, id), by)
          print(`delivery ${id} is ${(await demandDelivery(db, id)).status}`)
        }),
      )
  }

  webhooks
    .command('cancel-pending')
    .description('cancel every delivery of a webhook that is pending or held, and its replays')
    .argument('<webhookId>', 'id of the webhook', rowId)
    .action((id: number) =>
      onDatabase(async (db) => {
        const { cancelled } = await cancelPending({ db }, id, by, Number.POSITIVE_INFINITY)
        print(`${cancelled} deliveries cancelled`)
      }),
    )

  webhooks
    .command('replay')
    .description('send the deliveries of a span of time again')
    .argument('<webhookId>', 'id of the webhook', rowId)
    .requiredOption('--since <instant>', 'made at or after, e.g. 2026-03-01T00:00:00Z')
    .option('--until <instant>', 'made at or before (default: now)')
    .addOption(new Option('--status <status>', 'that stand so').choices(replayableStatuses).default('failed'))
    .option('--no-wait', "don't wait until it is done")
    .action((id: number, { wait, ...request }: { wait: boolean; since: string; until?: string; status: string }) =>
      onDatabase(async (db) => {
        const parsed = replayRequestSchema.safeParse(request)
        const [issue] = parsed.error?.issues ?? []
        if (!parsed.success) throw new AppError('invalid', `--${issue?.path.join('.')}: ${issue?.message}`)
        const { job, workId } = await askReplay(withoutBell(db), id, parsed.data)
        print(`job ${workId}`)
        if (!wait) return
        const onLook = createProgressLine(terminal, readReplay)
        const { result } = await follow(db, job, workId, { onLook, patienceMs }).finally(terminal.endDrawing)
        const { total, replayed, skipped } = result as ReplayResult
        print(`${replayed} of ${total} deliveries are sent again`)
        if (skipped > 0) print(`${skipped} more can't be: their event's body is no longer kept`)
      }),
    )

  webhooks
    .command('ping')
    .description('send a test message to a webhook, also to one that is off')
    .argument('<webhookId>', 'id of the webhook', rowId)
    .action((id: number) =>
      onDatabase(async (db) => {
        const { job, workId } = await askPing(withoutBell(db), id)
        const { result } = await follow(db, job, workId, { patienceMs })
        const { ok, statusCode, durationMs, error, keyEncoding, signatures } = result as PingResult
        const key = `signed with ${signatures === 1 ? 'a key' : `${signatures} keys`}, ${keyEncoding}`
        const words = ok ? `answered ${statusCode}` : (error ?? 'no answer')
        if (!ok) throw new AppError('unavailable', `${words} after ${durationMs} ms; ${key}`)
        print(`${words} after ${durationMs} ms; ${key}`)
      }),
    )
}
