import { Command } from 'commander'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { addDriftCommand } from '../../src/cli/drift.ts'
import { createSyncStack, type SyncStack } from '../processors/sync-fixtures.ts'

let stack: SyncStack
let siteId: number
beforeEach(async () => {
  stack = await createSyncStack({ jobs: ['sync-inventory', 'sync-prices'] })
  stack.dispatcher.start()
  siteId = await stack.site({ pageSize: 4 })
  await stack.products(siteId, 10)
  stack.stock(10, (n) => n)
  stack.erp.prices.fill(10, (i) => ({ sku: `S-${i + 1}`, price: `${i}.50` }))
})
afterEach(() => stack.close())

/** Runs the command; its lines, and how it ends. */
async function drift(options: string, patienceMs = 10_000): Promise<{ lines: string[]; error: string | undefined }> {
  const lines: string[] = []
  const program = new Command('website-worker').exitOverride().configureOutput({ writeErr: () => {} })
  const terminal = {
    print: (line: string) => void lines.push(line.replaceAll(/ +/g, ' ').trim()),
    endDrawing: () => {},
  }
  addDriftCommand(program, { onDatabase: (work) => work(stack.db), terminal, patienceMs })
  for (const each of program.commands) each.exitOverride().configureOutput({ writeErr: () => {} })
  const args = ['drift', ...options.split(' ').filter(Boolean)]
  const error = await program.parseAsync(args, { from: 'user' }).then(
    () => undefined,
    (reason: Error) => reason.message,
  )
  return { lines, error }
}

async function sync(job: 'sync-inventory' | 'sync-prices'): Promise<void> {
  const { workId } = await stack.ask(job, { siteId })
  await vi.waitFor(async () => expect(await stack.item(workId)).toMatchObject({ state: 'done' }), {
    timeout: 15_000,
    interval: 30,
  })
}

const head = 'site type in ERP in shop compared differing'

test('says what differs by site and stream, and changes nothing', async () => {
  stack.work()
  await sync('sync-inventory')
  await sync('sync-prices')
  expect(await drift('')).toEqual({
    lines: [head, `${siteId} inventory 10 10 10 0`, `${siteId} price 10 10 10 0`],
    error: undefined,
  })
  await stack.db.execute(sql`UPDATE website_product_variants SET inventory_quantity = 77 WHERE sku IN ('S-1', 'S-2')`)
  stack.erp.prices.change('S-3', { price: '99.00' })
  const found = await drift(`--site ${siteId}`)
  expect(found.lines).toEqual([head, `${siteId} inventory 10 10 10 2`, `${siteId} price 10 10 10 1`])
  expect(found.error).toMatch('3 rows differ')
  expect((await drift('--type price')).lines).toEqual([head, `${siteId} price 10 10 10 1`])
  expect((await stack.quantities(siteId)).get('S-1')).toBe(77)
  expect((await stack.productRows(siteId)).find((row) => row.sku === 'S-3')?.price).toBe('2.50')
})

test('goes on when one comparison fails, and says so', async () => {
  stack.work()
  await sync('sync-inventory')
  await sync('sync-prices')
  await stack.db.execute(
    sql`UPDATE website_sites SET settings = jsonb_set(settings, '{erp,url}', '"http://10.1.1.1/"') WHERE id = ${siteId}`,
  )
  const { lines, error } = await drift('')
  expect(lines).toHaveLength(3)
  expect(lines[1]).toMatch(`${siteId} inventory Failed: `)
  expect(error).toBe('2 of 2 could not be compared')
})

test.each([
  ['--site 0', 'a site id'],
  ['--type stock', 'Allowed choices'],
  ['--site 4711', 'Nothing of that was ever synced'],
])('refuses %s with words', async (options, words) => {
  expect((await drift(options)).error).toMatch(words)
})

test('says when no worker is there to compare', async () => {
  const workers = stack.work()
  await sync('sync-inventory')
  await workers.close(5_000)
  const { lines, error } = await drift('', 0)
  expect(lines[1]).toMatch(/No worker has taken it up/)
  expect(error).toBe('1 of 1 could not be compared')
})
