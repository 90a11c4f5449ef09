import { randomBytes } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import { AppError } from '../../errors.ts'
import { holds, ownTicket } from './processes.ts'

/** Runs `work` while no other process (or call) holds the lock file; a lock whose holder died is taken over. */
export async function withLock<T>(path: string, work: () => Promise<T>, timeoutMs = 120_000): Promise<T> {
  const own = `${path}.${process.pid}-${randomBytes(4).toString('hex')}`
  await writeFile(own, await ownTicket(), { flag: 'wx' })
  try {
    for (const deadline = Date.now() + timeoutMs; !(await taken(own, path)); await wait(50)) {
      if (Date.now() > deadline)
        throw new AppError('unavailable', `Another process has been holding ${path} for too long.`)
      await removeDead(path)
    }
    try {
      return await work()
    } finally {
      await rm(path, { force: true })
    }
  } finally {
    await rm(own, { force: true })
  }
}

/** A link appears with its content or not at all, so no one ever reads a half-written lock. */
async function taken(own: string, path: string): Promise<boolean> {
  try {
    await link(own, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

async function removeDead(path: string): Promise<void> {
  const ticket = await readFile(path, 'utf8').catch(() => undefined)
  if (ticket === undefined || (await holds(ticket))) return
  const aside = `${path}.dead-${randomBytes(4).toString('hex')}`
  try {
    await rename(path, aside)
    // Between reading and renaming, another waiter may have replaced the dead lock by its own: give that one back.
    if ((await readFile(aside, 'utf8')) !== ticket) await link(aside, path)
  } catch (error) {
    if (!['ENOENT', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  } finally {
    await rm(aside, { force: true })
  }
}
