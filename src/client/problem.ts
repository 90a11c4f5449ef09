import { messageOf } from '../errors.ts'
import type { Problem } from './views.ts'

/** A call that didn't do what was asked. */
export class WorkerApiError extends Error {
  /** The HTTP status; 0 when no answer came in time, and it is unknown whether the call had its effect. */
  readonly status: number
  readonly problem: Problem

  constructor(problem: Problem, options?: { cause?: unknown }) {
    super(problem.detail ? `${problem.title}: ${problem.detail}` : problem.title, options)
    this.name = 'WorkerApiError'
    this.status = problem.status
    this.problem = problem
  }
}

/** A JSON text's value, or undefined for anything else. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What the API said, or what a proxy in front of it left of that. */
export function problemOf(status: number, answer: unknown, request: string): Problem {
  const said = typeof answer === 'object' && answer !== null ? answer : {}
  const title = 'title' in said && typeof said.title === 'string' ? said.title : `Unexpected answer ${status}`
  return { detail: request, ...said, title, status }
}

/** Why there was none, as far as it can be told. */
export function noAnswer(request: string, timeoutMs: number, cause: unknown): Problem {
  const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  const late = reason instanceof Error && reason.name === 'TimeoutError'
  const detail = late ? `nothing within ${timeoutMs} ms` : messageOf(reason)
  return { title: 'No answer', status: 0, detail: `${request}: ${detail}` }
}
