import { startPostgres } from '../fixtures/services.ts'
import type { Facts } from './judge.ts'
import { scenarios } from './scenarios.ts'

const say = (text: string) => void process.stdout.write(`${text}\n`)

interface Result {
  name: string
  ok: boolean
  seconds: number
  facts?: Facts
  error?: string
}

/** Runs scenarios one after the other against real processes; resolves with what came of each. */
async function runAll(name: string | undefined): Promise<Result[]> {
  const chosen = scenarios.filter((scenario) => name === undefined || scenario.name === name)
  if (chosen.length === 0) throw new Error(`no scenario "${name}": ${scenarios.map((each) => each.name).join(', ')}`)
  // Servers that are being waited for don't keep the process running by themselves.
  const awake = setInterval(() => {}, 60_000)
  const postgres = await startPostgres()
  const results: Result[] = []
  try {
    for (const scenario of chosen) {
      say(`${scenario.name}: ${scenario.title}`)
      const began = performance.now()
      const seconds = () => Math.round((performance.now() - began) / 100) / 10
      try {
        const facts = await scenario.run({ postgresUrl: postgres.url, small: false })
        results.push({ name: scenario.name, ok: true, seconds: seconds(), facts })
        for (const [fact, value] of Object.entries(facts)) say(`    ${fact}: ${value}`)
        say(`  ✓ ${seconds()} s`)
      } catch (error) {
        results.push({ name: scenario.name, ok: false, seconds: seconds(), error: (error as Error).message })
        say(`  ✗ ${seconds()} s: ${(error as Error).message}`)
      }
    }
  } finally {
    await postgres.stop()
    clearInterval(awake)
  }
  return results
}

// Exit handlers end every process and server that was started.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const args = process.argv.slice(2)
const results = await runAll(args.find((arg) => !arg.startsWith('--')))
const ok = results.every((result) => result.ok)
say(ok ? 'Everything that must hold held.' : `${results.filter((result) => !result.ok).length} failed.`)
if (args.includes('--json')) say(JSON.stringify({ ok, results }))
process.exitCode = ok ? 0 : 1
