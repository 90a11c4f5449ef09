import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { chown, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Whom the server runs as when that isn't ourselves. */
export interface Account {
  uid: number
  gid: number
  /** Whether it is `nobody`, which must not own more than the data themselves. */
  nobody: boolean
}

/** PostgreSQL refuses root: then it runs as the folder's owner or, where that is root too, as `nobody`. */
export async function accountFor(folder: string): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined
  let nearest = folder
  for (;;) {
    const found = await stat(nearest).catch(() => undefined)
    if (found) {
      // initdb asks for the name of its user, so an owner that only exists as a number won't do.
      const owner = passwd().find((entry) => entry.uid === found.uid)
      if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid, nobody: owner.name === 'nobody' }
      break
    }
    nearest = dirname(nearest)
  }
  const nobody = passwd().find((entry) => entry.name === 'nobody')
  return { uid: nobody?.uid ?? 65_534, gid: nobody?.gid ?? 65_534, nobody: true }
}

/** The part of spawn's options that makes a child run as the account. */
export function runAs(account: Account | undefined): { uid?: number; gid?: number } {
  return account ? { uid: account.uid, gid: account.gid } : {}
}

/** Gives a folder or file to the account. */
export async function give(path: string, account: Account | undefined): Promise<void> {
  if (account) await chown(path, account.uid, account.gid)
}

/** Whether the account can enter a folder, asked of the system itself, whatever modes, mounts and lists say. */
export async function canEnter(folder: string, account: Account | undefined): Promise<boolean> {
  return run('/bin/sh', ['-c', 'test -x "$1"', 'sh', folder], { ...runAs(account), cwd: '/' }).then(
    () => true,
    () => false,
  )
}

function passwd(): { name: string; uid: number; gid: number }[] {
  let text = ''
  try {
    text = readFileSync('/etc/passwd', 'utf8')
  } catch {
    return []
  }
  return text.split('\n').flatMap((line) => {
    const [name = '', , uid, gid] = line.split(':')
    return uid && gid ? [{ name, uid: Number(uid), gid: Number(gid) }] : []
  })
}
