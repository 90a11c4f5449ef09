import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip } from 'node:zlib'
import { AppError, messageOf } from '../../errors.ts'

/** What a file holds: written beside it, and checked before any of its rows is dropped. */
export interface Manifest {
  table: string
  /** First day, UTC. */
  month: string
  part: number
  rows: number
  minId: number
  maxId: number
  bytes: number
  /** Of the file. */
  sha256: string
  /** Of the lines in it, in their order. */
  contentSha256: string
}

/** One row, as a line of JSON that Postgres made. */
export interface Line {
  id: number
  text: string
}

const linesAtOnce = 500

/** Where the manifest of a file lies. */
export const manifestPath = (path: string) => path.replace(/\.ndjson\.gz$/, '.manifest.json')

/**
 * Writes lines to a gzip file, whole or not at all, with its manifest beside it; it is on disk when this resolves. What a
 * run that is no more left unnamed goes. `confirm` is asked right before a file gets its name, and throws if it may not.
 */
export async function writeArchiveFile(
  path: string,
  about: Pick<Manifest, 'table' | 'month' | 'part'>,
  pages: AsyncIterable<readonly Line[]>,
  confirm: () => Promise<void> = async () => {},
): Promise<Manifest> {
  const content = createHash('sha256')
  const counts = { rows: 0, minId: Infinity, maxId: -Infinity }
  async function* text() {
    for await (const page of pages) {
      for (const { id } of page) {
        counts.minId = Math.min(counts.minId, id)
        counts.maxId = Math.max(counts.maxId, id)
      }
      counts.rows += page.length
      const chunk = page.map((line) => `${line.text}\n`).join('')
      content.update(chunk)
      yield chunk
    }
  }
  const hash = createHash('sha256')
  let bytes = 0
  await makeFolder(dirname(path))
  await removeUnnamed(path)
  await durably(path, confirm, (append) =>
    pipeline(Readable.from(text()), createGzip(), async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) {
        hash.update(chunk)
        bytes += chunk.length
        await append(chunk)
      }
    }),
  )
  const manifest: Manifest = {
    ...about,
    ...counts,
    bytes,
    sha256: hash.digest('hex'),
    contentSha256: content.digest('hex'),
  }
  await durably(manifestPath(path), confirm, (append) =>
    append(`${JSON.stringify(manifest, undefined, 2)}
`),
  )
  return manifest
}

// A folder is on disk once the one it lies in is.
async function makeFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true })
  if (first === undefined) return
  for (let made = resolve(path); made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made))
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  await folder.sync().finally(() => folder.close())
}

// Should its run still live, it finds nothing left to name.
async function removeUnnamed(path: string): Promise<void> {
  const names = [path, manifestPath(path)].map((each) => `${basename(each)}.`)
  for (const entry of await readdir(dirname(path))) {
    if (entry.endsWith('.tmp') && names.some((name) => entry.startsWith(name)))
      await rm(join(dirname(path), entry), { force: true })
  }
}

// Under a name of its own until it is whole and on disk; a crash leaves at most that.
async function durably(
  path: string,
  confirm: () => Promise<void>,
  write: (append: (chunk: Buffer | string) => Promise<void>) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`
  const file = await open(temporary, 'wx', 0o640)
  try {
    await write((chunk) => file.appendFile(chunk))
    await file.sync()
    await file.close()
    await confirm()
    await rename(temporary, path)
    await syncFolder(dirname(path))
  } catch (error) {
    await file.close().catch(() => {})
    await rm(temporary, { force: true })
    throw error
  }
}

const numbers = ['part', 'rows', 'minId', 'maxId', 'bytes'] as const
const texts = ['table', 'month', 'sha256', 'contentSha256'] as const

/** Reads a file's manifest. @throws AppError `conflict` when there is none that can be read */
export async function readManifest(path: string): Promise<Manifest> {
  try {
    const manifest = JSON.parse(await readFile(manifestPath(path), 'utf8')) as Manifest
    const isWhole =
      numbers.every((key) => Number.isSafeInteger(manifest[key])) &&
      texts.every((key) => typeof manifest[key] === 'string')
    if (!isWhole) throw new Error('something is missing in it')
    return manifest
  } catch (error) {
    throw new AppError('conflict', `its manifest can't be read: ${messageOf(error)}`, { cause: error })
  }
}

/**
 * Reads a file back, byte by byte and row by row, and holds it against its manifest; hands on its lines.
 * @throws AppError `conflict` at the first thing that isn't as it was written
 */
export async function readArchiveFile(
  path: string,
  manifest: Manifest,
  onLines: (lines: Line[]) => Promise<void> = async () => {},
): Promise<void> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) hash.update(chunk)
  }).catch((error: unknown) => refuse(`it can't be read: ${messageOf(error)}`))
  const sha256 = hash.digest('hex')
  if (sha256 !== manifest.sha256) refuse(`its bytes are not those that were written: SHA-256 ${sha256}`)

  const content = createHash('sha256')
  const seen = { rows: 0, minId: Infinity, maxId: -Infinity }
  await pipeline(createReadStream(path), createGunzip(), async (chunks: AsyncIterable<Buffer>) => {
    for await (const texts of linesOf(chunks)) {
      const lines = texts.map((text) => ({ id: (JSON.parse(text) as { id: number }).id, text }))
      for (const { id, text } of lines) {
        content.update(text).update('\n')
        seen.rows++
        seen.minId = Math.min(seen.minId, id)
        seen.maxId = Math.max(seen.maxId, id)
      }
      await onLines(lines)
    }
  })
  const { rows, minId, maxId, contentSha256 } = manifest
  if (seen.rows !== rows) refuse(`it holds ${seen.rows} rows, not ${rows}`)
  if (content.digest('hex') !== contentSha256) refuse('its rows are not those that were written')
  if (seen.minId !== minId || seen.maxId !== maxId) refuse('its ids are not those that were written')
}

function refuse(reason: string): never {
  throw new AppError('conflict', reason)
}

async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string[]> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let rest = ''
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (let from = 0; from < lines.length; from += linesAtOnce) yield lines.slice(from, from + linesAtOnce)
  }
  if (rest !== '') yield [rest]
}
