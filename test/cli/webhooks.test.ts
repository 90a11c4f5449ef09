import { Command } from 'commander'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createTerminal } from '../../src/cli/terminal.ts'
import { addWebhookCommands } from '../../src/cli/webhooks.ts'
import { events, webhookAttempts } from '../../src/db/schema/worker.ts'
import { startReceiver, type Receiver } from '../fixtures/receiver.ts'
import { createReplayStack, type ReplayStack } from '../processors/replay-fixtures.ts'

let receiver: Receiver
let stack: ReplayStack
beforeEach(async () => {
  receiver = await startReceiver()
  stack = await createReplayStack(`${receiver.url}/hook?token=t`, ['deliver-webhook', 'replay-webhook', 'ping-webhook'])
})
afterEach(async () => {
  await stack.close()
  await receiver.close()
})

/** What a command writes to standard output, which is a terminal or not. */
async function run(command: string, options: { isTTY?: boolean; patienceMs?: number } = {}): Promise<string> {
  let written = ''
  const stream = { isTTY: options.isTTY ?? false, write: (text: string) => ((written += text), true) }
  const program = new Command('website-worker').exitOverride().configureOutput({ writeErr: () => {} })
  addWebhookCommands(program, {
    onDatabase: (work) => work(stack.db),
    terminal: createTerminal(stream as never),
    ...(options.patienceMs !== undefined && { patienceMs: options.patienceMs }),
  })
  for (const group of program.commands) {
    for (const each of group.commands) each.exitOverride().configureOutput({ writeErr: () => {} })
  }
  await program.parseAsync(['webhooks', ...command.split(' ')], { from: 'user' })
  return written
}
const lines = async (command: string) => (await run(command)).trimEnd().split('\n')
const start = () => {
  stack.work()
  stack.dispatcher.start()
}

describe('the log', () => {
  test('lists deliveries of a webhook or a site, newest first, one a line', async () => {
    const [failed] = await stack.deliveries(1)
    const [held] = await stack.deliveries(1, { state: 'held', reason: 'webhook disabled' })
    await stack.db.execute(
      sql`UPDATE website_webhook_deliveries SET error_message = E'answered 500\n\u001b[31mred', status_code = 500 WHERE id = ${failed}`,
    )
    for (const of of [`--webhook ${stack.webhookId}`, `--site ${stack.siteId}`]) {
      expect(await lines(`deliveries ${of}`)).toEqual([
        `${held}          2026-03-01 12:00:00  held       10×   ---  order.created  webhook disabled`,
        `${failed}          2026-03-01 12:00:00  failed     10×   500  order.created  answered 500 [31mred`,
      ])
    }
    expect(await lines(`deliveries --webhook ${stack.webhookId} --status failed`)).toHaveLength(1)
    expect(await lines(`deliveries --webhook ${stack.webhookId} --limit 1`)).toHaveLength(1)
    expect(await lines(`deliveries --webhook ${stack.webhookId} --status cancelled`)).toEqual(['none'])
  })

  test('goes on page after page up to its limit', async () => {
    const ids = await stack.deliveries(450)
    const listed = await lines(`deliveries --webhook ${stack.webhookId} --limit 420`)
    expect(listed.map((line) => Number.parseInt(line))).toEqual(ids.toReversed().slice(0, 420))
  })

  test('shows a webhook without what is secret, and a delivery with its requests', async () => {
    const webhook = await run(`show ${stack.webhookId}`)
    expect(webhook).toContain(`targetUrl: ${receiver.url}/hook\n`)
    expect(webhook).toContain('health: healthy\n')
    expect(webhook).not.toMatch(/whsec|token/)

    const [id] = await stack.deliveries(1)
    await stack.db.insert(webhookAttempts).values({
      deliveryId: id!,
      attempt: 1,
      at: new Date('2026-03-01T12:00:01Z'),
      statusCode: 503,
      durationMs: 12,
      error: 'answered 503',
      trigger: 'event',
    })
    const delivery = await run(`delivery ${id}`)
    expect(delivery).toContain('status: failed\n')
    expect(delivery).toContain('  attempt 1  2026-03-01 12:00:01  503  12 ms  event  answered 503\n')
  })

  test('names what is not there, and what is not possible', async () => {
    await expect(run('show 2147483647')).rejects.toThrow('There is no webhook 2147483647')
    await expect(run('delivery 2147483647')).rejects.toThrow('There is no delivery 2147483647')
    await expect(run('deliveries')).rejects.toThrow('either --webhook <id> or --site <id>')
    await expect(run('deliveries --webhook 1 --site 1')).rejects.toThrow('either')
    await expect(run('deliveries --webhook 1 --status lost')).rejects.toThrow('Allowed choices')
    for (const id of ['0', 'x', '2147483648', '1.5']) await expect(run(`show ${id}`)).rejects.toThrow('whole number')
  })
})

describe('one delivery', () => {
  test('is sent again by the running worker', async () => {
    const [failed] = await stack.deliveries(1)
    const [pruned] = await stack.deliveries(1, { state: 'pruned' })
    expect(await lines(`retry ${failed}`)).toEqual([`delivery ${failed} is pending`])
    expect(await lines(`retry ${pruned}`)).toEqual([`delivery ${pruned} is pending`])
    start()
    await receiver.waitFor(2)
  })

  test('is cancelled, or it is said why not', async () => {
    const [pending] = await stack.deliveries(1, { state: 'owed' })
    expect(await lines(`cancel ${pending}`)).toEqual([`delivery ${pending} is cancelled`])
    await expect(run(`cancel ${pending}`)).rejects.toThrow('already')
    await stack.db.update(events).set({ body: null })
    await expect(run(`retry ${pending}`)).rejects.toThrow('body is no longer kept')
  })
})

test('all that is pending is cancelled', async () => {
  await stack.deliveries(3, { state: 'owed' })
  await stack.deliveries(2, { state: 'held' })
  expect(await lines(`cancel-pending ${stack.webhookId}`)).toEqual(['5 deliveries cancelled'])
})

describe('a replay', () => {
  const command = () => `replay ${stack.webhookId} --since 2026-03-01T00:00:00Z --until 2026-03-02T00:00:00Z`

  test('is waited for, and tells what it did', async () => {
    await stack.deliveries(30)
    await stack.deliveries(2, { bodiless: true })
    start()
    const said = await lines(command())
    expect(said[0]).toMatch(/^job \d+$/)
    expect(said.slice(-2)).toEqual([
      '30 of 30 deliveries are sent again',
      "2 more can't be: their event's body is no longer kept",
    ])
    await receiver.waitFor(30)
    expect(said.slice(1, -2)).toEqual(['100 % of 30'])
  })

  test('draws a bar on a terminal, and leaves its last state', async () => {
    await stack.deliveries(3)
    start()
    const said = await run(command(), { isTTY: true })
    expect(said).toContain(`\r\u001B[K[${'#'.repeat(30)}] 100 % of 3: 3 sent again\n3 of 3 deliveries are sent again\n`)
  })

  test('is left to the worker without waiting', async () => {
    await stack.deliveries(3, { state: 'cancelled' })
    const said = await lines(`${command()} --status cancelled --no-wait`)
    expect(said).toEqual([expect.stringMatching(/^job \d+$/)])
    start()
    await receiver.waitFor(3)
  })

  test('that is not possible is refused with the reason', async () => {
    await expect(run(`replay ${stack.webhookId} --since yesterday`)).rejects.toThrow('--since: ')
    await expect(run(`replay ${stack.webhookId} --since 2999-01-01T00:00:00Z`)).rejects.toThrow('future')
    await stack.setWebhook({ isActive: false })
    await expect(run(command())).rejects.toThrow('Switch it on first')
  })
})

describe('a ping', () => {
  test('tells of the answer and of the key', async () => {
    start()
    expect(await run(`ping ${stack.webhookId}`)).toMatch(
      /^answered 204 after \d+ ms; signed with a key, base64 \(whsec_\)\n$/,
    )
    receiver.answer(() => ({ status: 500 }))
    await stack.setWebhook({ secret: 'plain' })
    await expect(run(`ping ${stack.webhookId}`)).rejects.toThrow(
      /^answered 500 Internal Server Error after \d+ ms; signed with a key, utf-8$/,
    )
    await stack.setWebhook({ secret: '' })
    await expect(run(`ping ${stack.webhookId}`)).rejects.toThrow('Failed: the webhook has no secret')
  })

  test('says so when no worker takes it up', async () => {
    await expect(run(`ping ${stack.webhookId}`, { patienceMs: 1 })).rejects.toThrow('is one running?')
  })
})
