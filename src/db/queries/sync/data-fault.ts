import { pgErrorOf } from '../pg-error.ts'

/** Bad values, broken constraints and what triggers raise: a record's own fault, which waiting doesn't mend. */
const dataFaults = /^(22|23|P0)/

/** Locks that weren't to be had, deadlocks, serialization failures: to be tried again. */
const conflicts = ['55P03', '40P01', '40001']

/** What the database has against the data; undefined when it failed for another reason. */
export function dataFaultOf(error: unknown): string | undefined {
  const cause = pgErrorOf(error)
  return cause?.code && dataFaults.test(cause.code) ? cause.message : undefined
}

/** Whether another transaction was in the way. */
export function isConflict(error: unknown): boolean {
  const code = pgErrorOf(error)?.code
  return code !== undefined && conflicts.includes(code)
}
