import { Command } from 'commander'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { addPartitionCommands } from '../../src/cli/partition.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { fillPageviews } from '../db/partitions/conversion.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

async function run(command: string): Promise<string[]> {
  const lines: string[] = []
  const program = new Command('website-worker').exitOverride().configureOutput({ writeErr: () => {} })
  const terminal = { print: (line: string) => void lines.push(line), endDrawing: () => {} }
  addPartitionCommands(program, { onDatabase: (work) => work(database.db, database.url), terminal })
  for (const each of program.commands[0]!.commands) each.exitOverride().configureOutput({ writeErr: () => {} })
  await program.parseAsync(['partition', ...command.split(' ')], { from: 'user' })
  return lines
}

test('converts, tells how things stand, and goes back', async () => {
  await fillPageviews(database.db, 50, 1)
  expect((await run('enable')).filter((line) => line.includes('is partitioned'))).toHaveLength(2)
  expect(await run('status')).toEqual([
    expect.stringMatching(
      /^website_pageviews: partitioned by month, \d partitions from \d{4}-\d\d to \d{4}-\d\d; the plain table is kept/,
    ),
    expect.stringContaining('website_events: partitioned by month, 4 partitions'),
  ])
  expect((await run('revert pageviews')).at(-1)).toBe('website_pageviews is a plain table again')
  expect((await run('finish events')).at(-1)).toBe('website_events is finished')
  expect(await run('status')).toEqual([
    'website_pageviews: not partitioned',
    expect.stringMatching(/^website_events: partitioned by month, 4 partitions from \d{4}-\d\d to \d{4}-\d\d$/),
  ])
})

test('refuses with words what there is no such table of', async () => {
  await expect(run('enable orders')).rejects.toThrow('one of pageviews, events')
  await expect(run('revert events')).rejects.toThrow('website_events is not being converted')
})
