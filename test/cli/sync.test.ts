import { Command } from 'commander'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { addSyncCommand } from '../../src/cli/sync.ts'
import { createSyncStack, type SyncStack } from '../processors/sync-fixtures.ts'

let stack: SyncStack
let siteId: number
beforeEach(async () => {
  stack = await createSyncStack({ jobs: ['sync-products'] })
  siteId = await stack.site()
})
afterEach(() => stack.close())

function work() {
  stack.work()
  stack.dispatcher.start()
}

async function run(command: string, patienceMs = 20_000) {
  const lines: string[] = []
  const drawn: string[] = []
  const program = new Command('website-worker').exitOverride()
  addSyncCommand(program, {
    onDatabase: (job) => job(stack.db),
    terminal: { print: (line) => lines.push(line), draw: (line) => drawn.push(line), endDrawing: () => {} },
    patienceMs,
  })
  for (const each of program.commands) each.exitOverride().configureOutput({ writeErr: () => {} })
  await program.parseAsync(['sync', ...command.split(' ')], { from: 'user' })
  return { lines, drawn }
}
const product = (n: number) => ({ id: n, sku: `S-${n}`, name: `Product ${n}`, price: '9.90' })

test('reads a stream, and says what came of it', async () => {
  work()
  stack.erp.products.fill(5, (n) => product(n + 1))
  expect((await run(`products --site ${siteId}`)).lines).toEqual([
    expect.stringMatching(/^full: 5 fetched, 5 inserted/),
  ])
  expect((await run(`products --site ${siteId} --skus S-1,S-2`)).lines).toEqual(['targeted: 2 fetched, 2 unchanged'])
  expect(stack.erp.requests.at(-1)!.skus).toEqual(['S-1', 'S-2'])
  expect((await run(`products --site ${siteId}`)).lines).toEqual(['incremental: nothing came'])
  expect((await run(`products --site ${siteId} --full`)).lines).toEqual(['full: 5 fetched, 5 unchanged'])
})

test('takes what an ERP says that was restored from a backup', async () => {
  work()
  stack.erp.products.fill(2, (n) => product(n + 1))
  stack.erp.products.change('1', { name: 'Newer', version: 1_000 })
  await run(`products --site ${siteId}`)
  stack.erp.products.change('1', { name: 'Older', version: 5 })
  const name = async () => (await stack.productRows(siteId))[0]!.name
  await run(`products --site ${siteId} --full`)
  expect(await name()).toBe('Newer')
  expect((await run(`products --site ${siteId} --reset-versions`)).lines).toEqual([expect.stringMatching(/^full: /)])
  expect(await name()).toBe('Older')
})

test('fails when the run does, with its words', async () => {
  work()
  stack.erp.onRequest(() => ({ status: 403, body: '{"error":"not you"}' }))
  await expect(run(`products --site ${siteId}`)).rejects.toThrow(/^Failed: .*403/)
})

test('asks without waiting, and stops waiting where nobody works', async () => {
  expect((await run(`products --site ${siteId} --no-wait`)).lines).toEqual(['job 1 of sync-products is owed'])
  await expect(run(`products --site ${siteId} --full --force`, 300)).rejects.toThrow('No worker has taken it up')
  expect((await stack.items('sync-products')).map(({ payload }) => payload)).toEqual([
    { siteId },
    { siteId, mode: 'full', force: true },
  ])
})

test.each([
  ['orders --site 1', 'Allowed choices are products, inventory, prices'],
  ['products', "required option '--site <id>' not specified"],
  ['products --site 0', 'a site id'],
  ['products --site 999999', 'no such row'],
  ['products --site 1 --skus ,', '1 to 1000 SKUs'],
  ['products --site 1 --skus A --full', 'With --skus not everything is read'],
])('refuses "%s"', async (command, words) => {
  await expect(run(command)).rejects.toThrow(words)
})
