import { benchErp } from './erp.ts'
import { benchIsolation } from './isolation.ts'
import { benchPublish } from './publish.ts'
import { benchRollups } from './rollups.ts'
import { benchWebhooks } from './webhooks.ts'

const benches: Record<string, () => Promise<Record<string, number>>> = {
  erp: benchErp,
  isolation: benchIsolation,
  publish: benchPublish,
  rollups: benchRollups,
  webhooks: benchWebhooks,
}

const args = process.argv.slice(2)
const names = args.filter((arg) => !arg.startsWith('--'))
const unknown = names.filter((name) => !(name in benches))
if (unknown.length > 0) {
  process.stderr.write(`no bench ${unknown.join(', ')}; there are: ${Object.keys(benches).join(', ')}\n`)
  process.exit(1)
}

for (const name of names.length > 0 ? names : Object.keys(benches)) {
  const result = await benches[name]!()
  if (args.includes('--json')) process.stdout.write(`${JSON.stringify(result)}\n`)
  else for (const [key, value] of Object.entries(result)) process.stdout.write(`${name}  ${key.padEnd(14)} ${value}\n`)
}
process.exit(0)
