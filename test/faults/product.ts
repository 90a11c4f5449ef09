import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { packageRoot } from '../../src/db/package-root.ts'
import { opened } from '../fixtures/open-fixtures.ts'
import { demand, until } from './judge.ts'

/** A line of its log. */
export interface LogLine {
  level: number
  msg: string
  url?: string
}

/** A process of the product, as an operator would start it. */
export interface Product {
  role: Role
  pid: number
  /** Where its API listens; empty for a worker alone. */
  url: string
  log: LogLine[]
  /** What it wrote to standard error, and lines that are no log. */
  words(): string
  isRunning(): boolean
  /** Its exit code once it ended; null when a signal ended it. */
  ended: Promise<number | null>
  /** SIGTERM; resolves with the exit code and how long it took. */
  stop(): Promise<{ code: number | null; ms: number }>
  /** kill -9. */
  kill(): Promise<void>
}

export type Role = 'start' | 'api' | 'worker'

const warn = 40

const alive = new Set<() => void>()
process.on('exit', () => {
  for (const kill of alive) kill()
})

/** Runs the built product with this environment and no other, without waiting for it to be ready. */
export function spawnProduct(role: Role, env: Readonly<Record<string, string>>): Product {
  const child = spawn(process.execPath, [join(packageRoot(), 'dist/src/cli.js'), role], {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const endWithUs = () => void child.kill('SIGKILL')
  alive.add(endWithUs)
  const closed = opened(`website-worker ${role}, pid ${child.pid}`)
  const log: LogLine[] = []
  let words = ''
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.startsWith('{')) words += `${line}\n`
    else log.push(JSON.parse(line) as LogLine)
  })
  child.stderr.on('data', (chunk: Buffer) => {
    words += chunk.toString()
  })
  const isRunning = () => child.exitCode === null && child.signalCode === null
  const ended = once(child, 'close').then(([code]) => {
    alive.delete(endWithUs)
    closed()
    return code as number | null
  })
  return {
    role,
    pid: child.pid ?? 0,
    get url() {
      return log.find((line) => line.msg === 'started')?.url ?? ''
    },
    log,
    words: () => words,
    isRunning,
    ended,
    async stop() {
      const began = performance.now()
      child.kill('SIGTERM')
      return { code: await ended, ms: Math.round(performance.now() - began) }
    },
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** Waits until it says it has started and, with an API, until that accepts work. */
export async function becomesReady(product: Product): Promise<void> {
  await until(
    `website-worker ${product.role} starts`,
    30_000,
    () => !product.isRunning() || product.log.some((line) => line.msg === 'started'),
    () => complaints(product),
  )
  demand(product.isRunning(), `website-worker ${product.role} ended instead of starting: ${complaints(product)}`)
  if (product.url) await until('/readyz is 200', 10_000, async () => (await readiness(product)).httpStatus === 200)
}

export interface Readiness {
  httpStatus: number
  status: string
  checks: Record<string, string>
}

/** What `/readyz` says. */
export async function readiness(product: Product): Promise<Readiness> {
  const response = await fetch(`${product.url}/readyz`)
  return { httpStatus: response.status, ...((await response.json()) as Omit<Readiness, 'httpStatus'>) }
}

/** Its last warnings and errors. */
export function complaints(product: Product): string {
  const lines = product.log.filter((line) => line.level >= warn).slice(-15)
  return [...lines.map((line) => JSON.stringify(line)), product.words()].join('\n').slice(-6_000)
}
