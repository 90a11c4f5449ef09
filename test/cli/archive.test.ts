import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { addArchiveCommands } from '../../src/cli/archive.ts'
import { writeArchiveFile } from '../../src/db/archive/file.ts'
import { makeScratch, removeScratch } from '../fixtures/scratch.ts'

let dir: string
beforeEach(() => {
  dir = makeScratch()
})
afterEach(() => removeScratch(dir))

async function* rows(count: number) {
  yield Array.from({ length: count }, (_, id) => ({ id, text: JSON.stringify({ id, text: 'ä\n'.repeat(id) }) }))
}
const file = (part: number) => join(dir, `website_events/2025-01.${part}.ndjson.gz`)
const write = (part: number) =>
  writeArchiveFile(file(part), { table: 'website_events', month: '2025-01-01', part }, rows(700))

async function verify(...args: string[]): Promise<string[]> {
  const lines: string[] = []
  const program = new Command('website-worker').exitOverride()
  addArchiveCommands(program, { archiveDir: () => undefined, terminal: { print: (line) => lines.push(line) } })
  await program.parseAsync(['archive', 'verify', ...args], { from: 'user' }).catch((error: Error) => {
    lines.push(error.message)
  })
  return lines
}

test('finds every file as it was written', async () => {
  await write(1)
  await write(2)
  expect(await verify('--dir', dir)).toEqual(['2 files, 1400 rows: all as they were written'])
})

test('names what is not: one byte, a missing manifest, a missing file', async () => {
  await Promise.all([write(1), write(2), write(3), write(4)])
  const bytes = await readFile(file(1))
  await writeFile(file(1), bytes.with(100, bytes[100]! ^ 1))
  await writeFile(file(2).replace('ndjson.gz', 'manifest.json'), '{}')
  await mkdir(join(dir, 'elsewhere'))
  await writeFile(
    join(dir, 'elsewhere/2025-01.manifest.json'),
    await readFile(file(3).replace('ndjson.gz', 'manifest.json')),
  )
  expect(await verify('--dir', dir)).toEqual([
    expect.stringMatching(/^elsewhere\/2025-01.ndjson.gz: it can't be read: ENOENT/),
    expect.stringMatching(/^website_events\/2025-01.1.ndjson.gz: its bytes are not those that were written: SHA-256/),
    expect.stringMatching(/^website_events\/2025-01.2.ndjson.gz: its manifest can't be read/),
    '3 of 5 files are not what was written',
  ])
})

test('asks for a folder', async () => {
  expect(await verify()).toEqual(['ARCHIVE_DIR is not set: say --dir'])
})
