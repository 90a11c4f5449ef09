import { Command } from 'commander'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { addBackfillCommand } from '../../src/cli/backfill.ts'
import { disableDomain, enableDomain } from '../../src/db/domains.ts'
import { createSubmissionDiscovery } from '../../src/db/queries/discover-submissions.ts'
import { domains, work } from '../../src/db/schema/index.ts'
import { createLeadStack, type LeadStack } from '../processors/lead-fixtures.ts'

let stack: LeadStack
beforeAll(async () => {
  stack = await createLeadStack({ backend: 'postgres', jobs: ['create-lead', 'send-notification'] })
})
afterAll(() => stack.close())
beforeEach(async () => {
  await stack.db.delete(domains)
  await stack.db.delete(work)
  await stack.db.execute(sql`DELETE FROM website_forms`)
})

async function run(command: string): Promise<string[]> {
  const lines: string[] = []
  const program = new Command('website-worker').exitOverride().configureOutput({ writeErr: () => {} })
  addBackfillCommand(program, {
    onDatabase: (job) => job(stack.db),
    terminal: { print: (line) => lines.push(line), endDrawing: () => {} },
  })
  for (const each of program.commands) each.exitOverride().configureOutput({ writeErr: () => {} })
  await program.parseAsync(['backfill', ...command.split(' ')], { from: 'user' })
  return lines
}

test('owes what was written before the domain was enabled, and only once', async () => {
  await disableDomain(stack.db, 'leads')
  const ids = await stack.submit(await stack.form(), 1_500)
  await enableDomain(stack.db, 'leads')
  await stack.dispatcher.tick()
  expect(await stack.items()).toEqual([])
  const command = `create-lead --site ${stack.siteId}`
  expect(await run(`${command} --dry-run`)).toEqual(['1500 new submissions would be owed; nothing was changed'])
  expect(await stack.items()).toEqual([])
  expect(await run(command)).toEqual(['1500 new submissions are owed'])
  expect((await stack.items()).map((item) => Number(item.key))).toEqual(ids)
  expect(await run(command)).toEqual(['0 new submissions are owed'])
})

test('leaves alone what is older, done with, or of another site', async () => {
  const formId = await stack.form()
  const [old, recent, processed] = await stack.submit(formId, 3)
  await stack.db.execute(sql`UPDATE website_form_submissions SET created_at = '2026-02-28 23:59:59' WHERE id = ${old}`)
  await stack.db.execute(
    sql`UPDATE website_form_submissions SET created_at = '2026-03-01 00:00:00' WHERE id = ${recent}`,
  )
  await stack.db.execute(sql`UPDATE website_form_submissions SET status = 'processed' WHERE id = ${processed}`)
  await stack.submit(await stack.form({ siteId: null }))
  expect(await run(`create-lead --site ${stack.siteId} --since 2026-03-01`)).toEqual(['1 new submissions are owed'])
  expect((await stack.items()).map((item) => Number(item.key))).toEqual([recent])
})

test('keeps nothing from being mailed that is yet to be found', async () => {
  for (const domain of ['leads', 'notifications'] as const) await enableDomain(stack.db, domain)
  await stack.submit(await stack.form({ emailNotifications: true, notificationEmails: ['ann@example.com'] }))
  expect(await run(`create-lead --site ${stack.siteId}`)).toEqual(['1 new submissions are owed'])
  await createSubmissionDiscovery()(stack.db)
  expect(await stack.items('send-notification')).toHaveLength(1)
  expect(await stack.items()).toHaveLength(1)
})

test('says what keeps it waiting', async () => {
  await disableDomain(stack.db, 'leads', stack.siteId)
  await stack.submit(await stack.form())
  expect(await run(`create-lead --site ${stack.siteId}`)).toEqual([
    '1 new submissions are owed',
    'they wait: domain off. See: website-worker domains',
  ])
  expect(await stack.items()).toMatchObject([{ state: 'held', reason: 'domain off' }])
})

test.each([
  ['deliver-webhook --site 1', 'create-lead'],
  ['create-lead --site 0', 'a site id'],
  ['create-lead --site 999999', 'There is no site 999999'],
  ['create-lead --site 1 --since yesterday', 'a day like'],
  ['create-lead', '--site'],
])('refuses %s with words', async (command, words) => {
  await expect(run(command)).rejects.toThrow(words)
})
