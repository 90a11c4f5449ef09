import { createHash, randomBytes } from 'node:crypto'
import { chmod, lstat, mkdir, readFile, realpath, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { AppError } from '../../errors.ts'
import { type Account, accountFor, canEnter, give } from './account.ts'

/** Where an embedded server lives: `home/data` is PostgreSQL's, the rest of `home` is ours. */
export interface Place {
  home: string
  account: Account | undefined
}

const pointerName = 'moved-to.txt'

/** Finds or makes the folder of the data: `dataDir`, or one outside when the server's account can't enter it. */
export async function findPlace(dataDir: string): Promise<Place> {
  const account = await accountFor(resolve(dataDir))
  const first = await mkdir(dataDir, { recursive: true, mode: account ? 0o755 : 0o700 })
  const folder = await realpath(dataDir)
  if (!account) return { home: folder, account }
  // Owned by the account, but not where that is `nobody`: others run as nobody, and root reads and writes here.
  if (first && !account.nobody) await giveUpTo(resolve(first), resolve(dataDir), account)

  const pointed = await followPointer(folder)
  if (pointed && (await canEnter(pointed, account))) return { home: pointed, account }
  if (await canEnter(folder, account)) return { home: folder, account }
  if (await stat(join(folder, 'data')).catch(() => undefined)) {
    throw new AppError(
      'misconfigured',
      `The database in ${folder} can't be reached by the user it runs as, because a folder above became closed. ` +
        `Open that folder (chmod o+x), move ${folder} away to start empty, or set DATABASE_URL.`,
    )
  }
  return { home: await makeOutside(folder, account), account }
}

/** Folders that root alone can write and everyone can enter: nobody else can plant or replace anything there. */
export async function* rootFolders(account: Account): AsyncGenerator<string> {
  for (const parent of ['/var/lib', '/var/tmp', tmpdir()]) {
    const folder = join(parent, 'website-worker')
    let usable = false
    try {
      await mkdir(folder, { mode: 0o755 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error
      })
      const seen = await lstat(folder)
      if (!seen.isDirectory() || seen.uid !== 0 || (seen.mode & 0o022) !== 0) continue
      await chmod(folder, 0o755)
      usable = await canEnter(folder, account)
    } catch {
      continue
    }
    if (usable) yield folder
  }
}

async function makeOutside(folder: string, account: Account): Promise<string> {
  const { value: parent } = await rootFolders(account).next()
  if (typeof parent !== 'string')
    throw new AppError('misconfigured', 'No folder was found for the embedded database; set DATABASE_URL.')
  const hash = createHash('sha256').update(folder).digest('hex').slice(0, 12)
  const home = join(parent, `data-${hash}-${randomBytes(3).toString('hex')}`)
  // The pointer first: after a crash in between, it points to nothing and is replaced.
  await writeFile(
    join(folder, pointerName),
    `${home}\n\nThis database runs as another user, who can't enter this folder; its data are in the folder named above.\n`,
  )
  await mkdir(home)
  await chmod(home, 0o711)
  await writeFile(join(home, 'README.txt'), `The embedded database of ${folder}. Remove it when that folder is gone.\n`)
  return home
}

async function followPointer(folder: string): Promise<string | undefined> {
  const text = await readFile(join(folder, pointerName), 'utf8').catch(() => '')
  const home = text.split('\n')[0]
  if (!home) return undefined
  const seen = await lstat(home).catch(() => undefined)
  return seen?.isDirectory() && seen.uid === 0 && (seen.mode & 0o022) === 0 ? home : undefined
}

async function giveUpTo(top: string, folder: string, account: Account): Promise<void> {
  for (let path = folder; path.startsWith(top); path = resolve(path, '..')) await give(path, account)
}
