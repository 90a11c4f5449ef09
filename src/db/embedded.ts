import { realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { AppError, messageOf } from '../errors.ts'
import { findBinaries } from './embedded/binaries.ts'
import { openCluster } from './embedded/cluster.ts'
import { launch } from './embedded/launch.ts'
import { withLock } from './embedded/lock.ts'
import { findPlace, type Place, rootFolders } from './embedded/place.ts'
import { endPostmaster, findPostmaster, type Postmaster } from './embedded/postmaster.ts'
import { isAlive } from './embedded/processes.ts'
import { hasUsers, register } from './embedded/users.ts'

export interface EmbeddedOptions {
  /** Folder of the database; it is made when missing. As root the data may lie elsewhere: a note there says where. */
  dataDir: string
  /** Port on 127.0.0.1; a server that already runs keeps its own. Default: a free one. */
  port?: number
  /** `test` gives up what survives a power cut, for speed. Default: `full`. */
  durability?: 'full' | 'test'
  /** Gets a sentence about what is going on. Default: no one. */
  log?: (message: string) => void
}

export interface EmbeddedPostgres {
  /** Connects as superuser `postgres`, with a password that only the folder's owner can read. */
  url: string
  /** Process id of the server. */
  pid: number
  /** Whether the server already ran: a process before us was killed, or one beside us uses it too. */
  adopted: boolean
  /** Leaves the server; the last of its users stops it. A second call changes nothing. */
  stop(): Promise<void>
}

/**
 * Starts the packaged PostgreSQL on a folder, or joins the one that already runs there.
 * A start after any crash, of us or of the server, works and finds the data.
 * Throws `misconfigured` when this machine or folder can't have one, `unavailable` when it doesn't come up.
 */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  try {
    const place = await findPlace(options.dataDir)
    return await start(place, join(await realpath(options.dataDir), 'start.lock'), options)
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    throw new AppError(
      'misconfigured',
      `The embedded database in ${options.dataDir} isn't ours to use (${messageOf(error)}): ` +
        'start as the user who made it, give another folder, or set DATABASE_URL.',
      { cause: error },
    )
  }
}

async function start(place: Place, lock: string, options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const registration = await register(place.home, place.account)
  try {
    const { server, adopted, password, data } = await withLock(lock, () => findOrLaunch(place, options))
    const exiting = () => {
      if (registration.leaveNow() && isAlive(server.pid)) process.kill(server.pid, 'SIGINT')
    }
    process.on('exit', exiting)
    let stopped: Promise<void> | undefined
    return {
      url: urlOf(server.port, password),
      pid: server.pid,
      adopted,
      stop() {
        process.off('exit', exiting)
        return (stopped ??= withLock(lock, async () => {
          await registration.leave()
          if (await hasUsers(place.home)) return
          const running = await findPostmaster(data)
          if (running) await endPostmaster(running.pid)
        }))
      },
    }
  } catch (error) {
    await registration.leave()
    throw error
  }
}

async function findOrLaunch(place: Place, options: EmbeddedOptions) {
  const durability = options.durability ?? 'full'
  const binaries = await findBinaries(place.account, place.account ? rootFolders(place.account) : [place.home])
  const { data, password } = await openCluster(place, binaries, durability === 'full')
  const running = await settled(data)
  const server = running ?? (await launch(place, { binaries, data, port: options.port, durability }))
  await check(urlOf(server.port, password))
  options.log?.(`embedded PostgreSQL ${running ? 'found running' : 'started'} on port ${server.port}, data in ${data}`)
  return { server, adopted: running !== undefined, password, data }
}

/** Waits until a server that is coming up is ready, or one that is going down is gone. */
async function settled(data: string): Promise<Postmaster | undefined> {
  for (;;) {
    const found = await findPostmaster(data)
    if (!found || found.status === 'ready') return found
    await wait(50)
  }
}

async function check(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  try {
    await client.connect()
  } catch (error) {
    throw new AppError('unavailable', `The embedded PostgreSQL runs but refuses us: ${messageOf(error)}`, {
      cause: error,
    })
  } finally {
    await client.end().catch(() => {})
  }
}

function urlOf(port: number, password: string): string {
  return `postgres://postgres:${password}@127.0.0.1:${port}/postgres`
}
