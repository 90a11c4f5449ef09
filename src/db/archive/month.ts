import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { and, eq, sql } from 'drizzle-orm'
import { AppError, messageOf } from '../../errors.ts'
import { transact, type Db, type Tx } from '../client.ts'
import { archives } from '../schema/archives.ts'
import { manifestPath, readArchiveFile, readManifest, writeArchiveFile } from './file.ts'
import { type ArchivableTable, countSame, hasRows, removeSame, rowsOf } from './rows.ts'
import { sealMonth } from './seal.ts'

export interface ArchiveOptions {
  /** Where the files go; the same for every process that archives. */
  dir: string
  signal: AbortSignal
}

type Part = typeof archives.$inferSelect

/** What became of a month: rows that left the table, or why they stayed. */
export interface ArchivedMonth {
  table: ArchivableTable
  month: string
  file: string
  rows: number
  /** Why nothing was dropped, or not all. */
  refused?: string
}

const whichPart = ({ tableName, month, part }: Pick<Part, 'tableName' | 'month' | 'part'>) =>
  and(eq(archives.tableName, tableName), eq(archives.month, month), eq(archives.part, part))

// Only as it was when this run looked: one that comes back after another took over must not undo what that did.
async function update(db: Db | Tx, part: Part, change: Partial<typeof archives.$inferInsert>): Promise<Part> {
  // Primary key.
  const [row] = await db
    .update(archives)
    .set(change)
    .where(and(whichPart(part), eq(archives.state, part.state)))
    .returning()
  if (!row) throw new AppError('unavailable', 'another run is at it')
  return row
}

/** The part of a month that is under way, or a new one for rows that have none; undefined when there is nothing to do. */
async function openPart(db: Db, table: ArchivableTable, month: string, dir: string): Promise<Part | undefined> {
  // Primary key.
  const parts = await db
    .select()
    .from(archives)
    .where(and(eq(archives.tableName, table), eq(archives.month, month)))
    .orderBy(archives.part)
  const last = parts.at(-1)
  const isBegun = last?.state === 'writing'
  if (last && !isBegun && last.state !== 'dropped') return last
  if (!(await hasRows(db, table, month))) {
    // Whoever removed them left nothing to archive.
    if (isBegun) await db.delete(archives).where(and(whichPart(last), eq(archives.state, 'writing')))
    return undefined
  }
  if (isBegun) return last
  const fileOf = (part: number) => `${table}/${month.slice(0, 7)}${part === 1 ? '' : `.${part}`}.ndjson.gz`
  let part = (last?.part ?? 0) + 1
  // A file that the books don't know of, since they are of another installation, holds what nothing else may hold any more.
  while (existsSync(join(dir, fileOf(part))) || existsSync(manifestPath(join(dir, fileOf(part))))) part++
  const file = fileOf(part)
  const [row] = await db.insert(archives).values({ tableName: table, month, part, file, state: 'writing' }).returning()
  return row
}

/** Writes the rows of a month to a file, if that isn't done; changes no row. Returns its part; undefined without rows. */
export async function writeMonth(
  db: Db,
  table: ArchivableTable,
  month: string,
  { dir, signal }: ArchiveOptions,
): Promise<Part | undefined> {
  const part = await openPart(db, table, month, dir)
  // A file that was lost before any of its rows was dropped can be written again.
  const isLost = part?.state === 'written' && !existsSync(join(dir, part.file))
  if (!part || (part.state !== 'writing' && !isLost)) return part
  const about = { table, month, part: part.part }
  const confirm = async () => {
    signal.throwIfAborted()
    await update(db, part, { state: part.state })
  }
  const manifest = await writeArchiveFile(join(dir, part.file), about, rowsOf(db, table, month, signal), confirm)
  return update(db, part, { state: 'written', rows: manifest.rows, sha256: manifest.sha256, error: null })
}

/**
 * Reads the file of a month back, holds it against its manifest, the books and the table, and only then removes the rows
 * that are exactly as it says, in batches. Goes on where it was stopped. @throws AppError saying why it won't
 */
export async function dropMonth(
  db: Db,
  part: Part,
  { dir, signal }: ArchiveOptions,
): Promise<{ rows: number; part: Part }> {
  const { file, month } = part
  const table = part.tableName as ArchivableTable
  const path = join(dir, file)
  const manifest = await readManifest(path)
  if (manifest.sha256 !== part.sha256 || manifest.rows !== part.rows) {
    throw new AppError('conflict', 'its manifest is not the one that was written')
  }
  let inTable = 0
  await readArchiveFile(path, manifest, async (lines) => {
    signal.throwIfAborted()
    inTable += await countSame(db, table, month, lines)
  })
  let dropping = part
  if (part.state === 'written') {
    if (inTable !== manifest.rows) {
      await update(db, part, { state: 'writing' })
      const message = `${manifest.rows - inTable} of its rows were changed since; it is written anew`
      throw new AppError('unavailable', message)
    }
    dropping = await transact(db, async (tx) => {
      if (table !== 'website_audit_logs') await sealMonth(tx, month)
      return update(tx, part, { state: 'dropping', error: null })
    })
  }
  let rows = 0
  await readArchiveFile(path, manifest, async (lines) => {
    signal.throwIfAborted()
    rows += await removeSame(db, table, month, lines)
  })
  const dropped = await update(db, dropping, {
    state: 'dropped',
    droppedAt: sql`now()` as unknown as Date,
    error: null,
  })
  return { rows, part: dropped }
}

/** Archives a month; undefined when it has no rows. What stands in the way is kept in the books, and returned. */
export async function archiveMonth(
  db: Db,
  table: ArchivableTable,
  month: string,
  options: ArchiveOptions,
): Promise<ArchivedMonth | undefined> {
  const part = await writeMonth(db, table, month, options)
  if (!part) return undefined
  const about = { table, month, file: part.file }
  try {
    const { rows } = await dropMonth(db, part, options)
    return { ...about, rows }
  } catch (error) {
    options.signal.throwIfAborted()
    if (!(error instanceof AppError)) throw error
    const refused = messageOf(error)
    // Primary key.
    await db.update(archives).set({ error: refused }).where(whichPart(part))
    return { ...about, rows: 0, refused }
  }
}
