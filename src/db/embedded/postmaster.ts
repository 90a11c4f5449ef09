import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { AppError } from '../../errors.ts'
import { commandOf, isAlive } from './processes.ts'

/** A live server of a data folder, as its postmaster.pid tells. */
export interface Postmaster {
  pid: number
  port: number
  status: 'starting' | 'stopping' | 'ready'
}

/** The live server of a data folder, if any, whoever started it. */
export async function findPostmaster(data: string): Promise<Postmaster | undefined> {
  const path = join(data, 'postmaster.pid')
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw error
  })
  const lines = text.split('\n').map((line) => line.trim())
  const pid = Number(lines[0])
  if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return undefined
  if (!(await commandOf(pid)).includes(data)) {
    // A stranger got the pid of a server that died. PostgreSQL would refuse to start; with a pid that can't exist it
    // goes on to its own check for leftover backends, which removing the file would switch off.
    if (isAlive(pid)) await writeFile(path, [String(2 ** 31 - 1), ...text.split('\n').slice(1)].join('\n'))
    return undefined
  }
  const status = lines[7] === 'ready' || lines[7] === 'stopping' ? lines[7] : 'starting'
  return { pid, port: Number(lines[3]), status }
}

/** Ends a server: fast shutdown, after `graceMs` an immediate one, in the end by force. */
export async function endPostmaster(pid: number, graceMs = 10_000): Promise<void> {
  for (const [signal, patienceMs] of [
    ['SIGINT', graceMs],
    ['SIGQUIT', 8_000],
    ['SIGKILL', 2_000],
  ] as const) {
    try {
      process.kill(pid, signal)
    } catch {
      return
    }
    for (const deadline = Date.now() + patienceMs; Date.now() < deadline; await wait(20)) if (!isAlive(pid)) return
  }
  throw new AppError('unavailable', `The embedded PostgreSQL (process ${pid}) doesn't stop.`)
}
