import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { percentile } from './judge.ts'

/** Resident memory of a process, MB. */
export async function rssMb(pid: number): Promise<number> {
  if (process.platform === 'linux') {
    const kb = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]
    return Number(kb) / 1_024
  }
  const { stdout } = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(pid)])
  return Number(stdout) / 1_024
}

export interface MemoryWatch {
  /** Median of what was seen while `done` was from `from` up to `to`, MB; NaN when nothing was. */
  medianMb(from: number, to: number): number
  peakMb(): number
  stop(): void
}

/** Looks at a process's memory four times a second. */
export function watchMemory(pid: number, done: () => number): MemoryWatch {
  const samples: { done: number; rssMb: number }[] = []
  const look = async () => {
    const sample = { done: done(), rssMb: await rssMb(pid) }
    if (!Number.isNaN(sample.rssMb)) samples.push(sample)
  }
  const timer = setInterval(() => void look().catch(() => {}), 250)
  return {
    medianMb(from, to) {
      const within = samples.filter((sample) => sample.done >= from && sample.done <= to)
      return within.length === 0
        ? Number.NaN
        : percentile(
            within.map((sample) => sample.rssMb),
            0.5,
          )
    },
    peakMb: () => Math.round(Math.max(...samples.map((sample) => sample.rssMb))),
    stop: () => clearInterval(timer),
  }
}
