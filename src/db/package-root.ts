import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder that holds `drizzle/`, whether this runs from `src/` or from `dist/src/`. */
export function packageRoot(from = dirname(fileURLToPath(import.meta.url))): string {
  if (existsSync(join(from, 'drizzle/meta/_journal.json'))) return from
  if (dirname(from) === from) throw new Error('drizzle/meta/_journal.json is missing from the package')
  return packageRoot(dirname(from))
}
