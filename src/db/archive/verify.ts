import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../../errors.ts'
import { readArchiveFile, readManifest } from './file.ts'

/** How a file below the archive's folder fares. */
export interface VerifiedFile {
  file: string
  rows: number
  /** Why it is not what was written. */
  fault?: string
}

/** Reads every file of an archive back and holds it against its manifest; needs no database. */
export async function* verifyArchive(dir: string): AsyncGenerator<VerifiedFile> {
  for (const file of await listFiles(dir)) {
    const path = join(dir, file)
    try {
      const manifest = await readManifest(path)
      await readArchiveFile(path, manifest)
      yield { file, rows: manifest.rows }
    } catch (error) {
      yield { file, rows: 0, fault: messageOf(error) }
    }
  }
}

// A manifest whose file is gone is named by that file, which then can't be read.
async function listFiles(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true })
  const files = entries
    .filter((name) => /\.(ndjson\.gz|manifest\.json)$/.test(name))
    .map((name) => name.replace(/\.manifest\.json$/, '.ndjson.gz'))
  return [...new Set(files)].toSorted()
}
