import { Command } from 'commander'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { addOriginCommands } from '../../src/cli/origins.ts'
import { createTerminal } from '../../src/cli/terminal.ts'
import { laneLimits, lanes } from '../../src/db/schema/worker.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.delete(lanes)
  await database.db.delete(laneLimits)
})

async function run(command: string): Promise<string[]> {
  let written = ''
  const stream = { isTTY: false, write: (text: string) => ((written += text), true) }
  const program = new Command('website-worker').exitOverride()
  addOriginCommands(program, {
    onDatabase: (work) => work(database.db),
    terminal: createTerminal(stream as never),
  })
  for (const each of program.commands.flatMap((group) => group.commands)) {
    each.exitOverride().configureOutput({ writeErr: () => {} })
  }
  await program.parseAsync(['origins', ...command.split(' ')], { from: 'user' })
  return written.trimEnd().split('\n')
}

test('sets limits, shows them and takes them away', async () => {
  expect(await run('set HTTPS://shop.example/ --max-concurrent 4 --per-second 0.5')).toEqual([
    'https://shop.example                      4 at a time, 0.5 a second  breaker closed  0 parked  0 in the queue',
  ])
  expect((await run('set https://shop.example --max-concurrent 2'))[0]).toContain('  2 at a time  ')
  expect((await run('show https://shop.example'))[0]).toContain('  2 at a time  ')
  expect((await run('set https://shop.example --per-second none'))[0]).toContain('  unlimited  ')
  expect((await run('reset https://shop.example'))[0]).toContain('  no limits of its own  ')
  await expect(run('reset https://shop.example')).rejects.toThrow('No limits are set for https://shop.example')
})

test('lists all of them', async () => {
  expect(await run('list')).toEqual(['none'])
  await database.db.insert(laneLimits).values([{ lane: '*', requestsPerSecond: 20 }])
  await database.db
    .insert(lanes)
    .values(Array.from({ length: 450 }, (_, n) => ({ lane: `https://${n}.example`, window: 8 })))
  await database.db
    .insert(lanes)
    .values({ lane: 'https://open.example', window: 8, opens: 1, openUntil: new Date('2999-01-01T00:00:00Z') })
  const lines = await run('list')
  expect(lines).toHaveLength(452)
  expect(lines.find((line) => line.startsWith('*'))).toContain('20 a second')
  expect(lines.find((line) => line.startsWith('https://open'))).toContain('breaker open until 2999-01-01 00:00:00')
})

test.each([
  ['set https://shop.example', 'Give --max-concurrent, --per-second or both'],
  ['set https://shop.example --max-concurrent 0', '--max-concurrent: '],
  ['set https://shop.example --max-concurrent 1.5', '--max-concurrent: '],
  ['set https://shop.example --per-second 0', '--per-second: '],
  ['set https://shop.example --per-second many', 'a number, or none'],
  ['set shop.example --per-second 1', 'Not an origin'],
  ['show https://shop.example/hook', 'no user, path, query'],
])('"%s" is refused: %s', async (command, message) => {
  await expect(run(command)).rejects.toThrow(message)
  expect(await database.db.select().from(laneLimits)).toEqual([])
})
