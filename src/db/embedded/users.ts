import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Account, give } from './account.ts'
import { holds, isAlive, ownTicket } from './processes.ts'

/** One start's entry among the processes that use a server; the last to leave stops it. */
export interface Registration {
  leave(): Promise<void>
  /** For a process that is exiting: leaves, and tells whether no one else is left. */
  leaveNow(): boolean
}

/** Enters this process among the users of the server in `home`. */
export async function register(home: string, account: Account | undefined): Promise<Registration> {
  const folder = join(home, 'users')
  await mkdir(folder, { recursive: true })
  const own = join(folder, `${process.pid}-${randomBytes(4).toString('hex')}`)
  await writeFile(own, await ownTicket(), { flag: 'wx' })
  if (account && !account.nobody) await Promise.all([give(folder, account), give(own, account)])
  return {
    leave: () => rm(own, { force: true }),
    leaveNow() {
      try {
        rmSync(own, { force: true })
        const others = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'))
        return !others.some((ticket) => isAlive(Number.parseInt(ticket)))
      } catch {
        return false
      }
    },
  }
}

/** Whether a live process uses the server; entries of processes that died are removed. */
export async function hasUsers(home: string): Promise<boolean> {
  const folder = join(home, 'users')
  let found = false
  for (const name of await readdir(folder).catch(() => [])) {
    const ticket = await readFile(join(folder, name), 'utf8').catch(() => '')
    if (await holds(ticket)) found = true
    else await rm(join(folder, name), { force: true })
  }
  return found
}
