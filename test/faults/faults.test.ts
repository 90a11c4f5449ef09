import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, inject, test, vi } from 'vitest'
import { packageRoot } from '../../src/db/package-root.ts'
import { scenarios } from './scenarios.ts'

const minutes = 60_000

// Each waits for most of its time, for locks and leases to run out.
vi.setConfig({ maxConcurrency: 3 })

describe.concurrent('faults', () => {
  beforeAll(async () => {
    const compiler = join(packageRoot(), 'node_modules/.bin/tsc')
    await promisify(execFile)(compiler, ['-p', 'tsconfig.build.json'], { cwd: packageRoot() })
  }, 2 * minutes)

  test.each(scenarios.map((scenario) => [scenario.title, scenario] as const))(
    '%s',
    async (_, scenario) => void (await scenario.run({ postgresUrl: inject('postgresUrl'), small: true })),
    2 * minutes,
  )
})
