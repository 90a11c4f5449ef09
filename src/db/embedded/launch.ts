import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { AppError } from '../../errors.ts'
import { give, runAs } from './account.ts'
import { bareEnvironment, type Binaries } from './binaries.ts'
import type { Place } from './place.ts'
import { findPostmaster, type Postmaster } from './postmaster.ts'

export interface LaunchOptions {
  binaries: Binaries
  data: string
  /** Default: a free one. */
  port?: number | undefined
  /** `test` gives up what survives a power cut, for speed. */
  durability: 'full' | 'test'
}

/** Starts a server and waits until it accepts connections, however long its recovery takes. */
export async function launch(place: Place, options: LaunchOptions): Promise<Postmaster> {
  for (const deadline = Date.now() + 20_000; ; await wait(100)) {
    const started = await attempt(place, options, options.port ?? (await freePort()))
    if (typeof started !== 'string') return started
    // Backends outlive a killed postmaster for a moment, and a free port may be taken by the time it is used.
    const passes = /is still in use/.test(started) || (!options.port && /could not bind/.test(started))
    if (passes && Date.now() < deadline) continue
    throw new AppError('unavailable', `The embedded PostgreSQL in ${options.data} didn't start: ${started}`)
  }
}

/** The server, or what it said when it ended instead of starting. */
async function attempt(place: Place, options: LaunchOptions, port: number): Promise<Postmaster | string> {
  const log = await openLog(place)
  const said = async () => (await readFile(log.path)).subarray(log.size).toString('utf8').trim()
  let child: ChildProcess
  try {
    child = spawn(options.binaries.postgres, ['-D', options.data, ...settings(port, options.durability)], {
      ...runAs(place.account),
      // A session of its own: Ctrl-C reaches us only, and we stop it when our work has ended.
      detached: true,
      cwd: '/',
      env: bareEnvironment,
      stdio: ['ignore', log.fd, log.fd],
    })
    await once(child, 'spawn')
  } finally {
    await log.close()
  }
  child.unref()
  for (;;) {
    const found = await findPostmaster(options.data)
    if (found?.status === 'ready' && found.pid === child.pid) return found
    if (child.exitCode !== null || child.signalCode !== null) return (await said()) || `exit code ${child.exitCode}`
    await wait(20)
  }
}

function settings(port: number, durability: 'full' | 'test'): string[] {
  const common = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: 200,
    shared_buffers: '96MB',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_min_messages: 'log',
    log_checkpoints: 'off',
  }
  const fast = {
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    max_wal_size: '512MB',
    autovacuum_naptime: '10min',
  }
  const all = durability === 'test' ? { ...common, ...fast } : common
  return Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

async function openLog(place: Place) {
  const path = join(place.home, 'server.log')
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants
  const file = await open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600)
  if ((await file.stat()).size > 4 * 2 ** 20) await file.truncate()
  if (place.account && !place.account.nobody) await give(path, place.account)
  return { path, fd: file.fd, size: (await file.stat()).size, close: () => file.close() }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}
