// Prints `N passed, N failed` from vitest's own report and exits like the run did.
import { readFileSync, rmSync } from 'node:fs'

const [path, status] = process.argv.slice(2)
const files = read(path)
const count = (...states) =>
  files.flatMap((file) => file.assertionResults).filter((test) => states.includes(test.status)).length
// A file can fail as a whole, in a hook or while it loads, with no failed test in it.
const brokenFiles = files.filter(
  (file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
).length
const [passed, failed, skipped] = [count('passed'), count('failed') + brokenFiles, count('skipped', 'pending', 'todo')]
rmSync(path, { force: true })

if (skipped > 0) console.log(`${skipped} skipped`)
if (status === '0' && failed === 0 && passed > 0) {
  console.log(`${passed} passed, 0 failed`)
} else if (failed > 0) {
  console.log(`${passed} passed, ${failed} failed`)
  process.exitCode = 1
} else {
  console.log(`The test run broke off (exit code ${status}).`)
  process.exitCode = 1
}

function read(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).testResults
  } catch {
    return []
  }
}
