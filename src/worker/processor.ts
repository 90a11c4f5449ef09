import type { Processor } from '../processors/contract.ts'

/** A processor whose types only its own module knows. */
// oxlint-disable-next-line typescript/no-explicit-any
export type AnyProcessor = Processor<any, any, any, any>
