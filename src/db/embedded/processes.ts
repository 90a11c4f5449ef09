import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Whether a process exists and still does something; a zombie that nobody reaps counts as gone. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  if (process.platform !== 'linux') return true
  try {
    return statOf(readFileSync(`/proc/${pid}/stat`, 'utf8'))[0] !== 'Z'
  } catch {
    return false
  }
}

/** A mark that tells a process from a later one that got the same pid. */
export async function birthmarkOf(pid: number): Promise<string> {
  try {
    if (process.platform === 'linux') return statOf(await readFile(`/proc/${pid}/stat`, 'utf8'))[19] ?? ''
    return (await run('ps', ['-o', 'lstart=', '-p', String(pid)])).stdout.trim()
  } catch {
    return ''
  }
}

/** The command line of a process, empty when it is gone. */
export async function commandOf(pid: number): Promise<string> {
  try {
    if (process.platform === 'linux') return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ')
    return (await run('ps', ['-ww', '-o', 'command=', '-p', String(pid)])).stdout
  } catch {
    return ''
  }
}

/** `<pid> <birthmark>` of this process, as written into lock and user files. */
export async function ownTicket(): Promise<string> {
  return `${process.pid} ${await birthmarkOf(process.pid)}`
}

/** Whether the process that wrote a ticket still lives. */
export async function holds(ticket: string): Promise<boolean> {
  const [pid = '', ...birthmark] = ticket.split(' ')
  if (!/^\d+$/.test(pid) || !isAlive(Number(pid))) return false
  return (await birthmarkOf(Number(pid))) === birthmark.join(' ')
}

/** The fields after the command's name, which may itself hold spaces and brackets. */
function statOf(text: string): string[] {
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}
