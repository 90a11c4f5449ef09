import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { AppError } from '../../errors.ts'
import { give, runAs } from './account.ts'
import { bareEnvironment, type Binaries } from './binaries.ts'
import type { Place } from './place.ts'

const run = promisify(execFile)

/** The server's data folder and the password of its superuser `postgres`. */
export interface Cluster {
  data: string
  password: string
}

const passwordName = 'website-worker.password'

/** Opens the data folder, made by initdb when there is none. */
export async function openCluster(place: Place, binaries: Binaries, sync: boolean): Promise<Cluster> {
  const data = join(place.home, 'data')
  const made = (await versionOf(data)) ?? (await initialise(place, binaries, sync))
  if (made !== binaries.major) {
    throw new AppError(
      'misconfigured',
      `${data} was made by PostgreSQL ${made}, the packaged one is ${binaries.major}. ` +
        `Move that folder away to start empty, or set DATABASE_URL to a PostgreSQL ${made} that serves it.`,
    )
  }
  return { data, password: (await readFile(join(data, passwordName), 'utf8')).trim() }
}

async function versionOf(data: string): Promise<string | undefined> {
  try {
    return (await readFile(join(data, 'PG_VERSION'), 'utf8')).trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/**
 * initdb works in a folder of its own that gets its name when all is there, so a half-made one is never taken.
 * Random, because the initdb of a killed process may still be writing to its one.
 */
async function initialise({ home, account }: Place, binaries: Binaries, sync: boolean): Promise<string> {
  for (const name of await readdir(home)) {
    if (name.startsWith('init-')) await rm(join(home, name), { recursive: true, force: true }).catch(() => {})
  }
  const half = join(home, `init-${randomBytes(4).toString('hex')}`)
  const passwordFile = `${half}.password`
  await mkdir(half, { mode: 0o700 })
  const password = randomBytes(24).toString('base64url')
  await writeFile(passwordFile, password, { mode: 0o600, flag: 'wx' })
  await Promise.all([give(half, account), give(passwordFile, account)])
  const options = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
  await run(
    binaries.initdb,
    [
      '-D',
      half,
      '-U',
      'postgres',
      '-A',
      'scram-sha-256',
      `--pwfile=${passwordFile}`,
      ...options,
      ...(sync ? [] : ['-N']),
    ],
    { ...runAs(account), cwd: '/', env: bareEnvironment },
  ).catch((error: Error & { stderr?: string }) => {
    const said = error.stderr?.trim() || error.message
    throw new AppError('misconfigured', `The embedded PostgreSQL can't make its database (${said}); set DATABASE_URL.`)
  })
  await rename(passwordFile, join(half, passwordName))
  await rename(half, join(home, 'data'))
  return binaries.major
}
