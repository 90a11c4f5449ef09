import { STATUS_CODES } from 'node:http'
import { DrizzleQueryError } from 'drizzle-orm'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { AppError, type ErrorCode } from '../errors.ts'
import { pgErrorOf } from '../db/queries/pg-error.ts'
import { mayPass } from '../db/unreachable.ts'

/** What is wrong with one field; `field` is its path, e.g. `events.3.siteId`. */
export interface FieldError {
  field: string
  message: string
}

/** RFC 9457, with the fields it is about. */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  field?: string
  errors?: FieldError[]
}

export const problemType = 'application/problem+json'

const statuses: Record<ErrorCode, number> = {
  bad_request: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  invalid: 422,
  rate_limited: 429,
  unavailable: 503,
  refused: 422,
  misconfigured: 500,
}

/** How many fields one answer names, and how much of a caller's own text it repeats. */
const mostErrors = 20
const longestText = 300

const clip = (text: string) => (text.length > longestText ? `${text.slice(0, longestText)}…` : text)

/** A problem of a status, about one or more fields. */
export function problem(status: number, detail: string, errors: readonly FieldError[] = []): Problem {
  const title = STATUS_CODES[status] ?? 'Error'
  const told = errors.slice(0, mostErrors).map(({ field, message }) => ({ field: clip(field), message: clip(message) }))
  return {
    type: `urn:website-worker:problem:${title.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`,
    title,
    status,
    detail: clip(detail),
    ...(told[0] && { field: told[0].field, errors: told }),
  }
}

/** The fields a schema found wrong; `part` stands for the whole where the path is empty. */
export function fieldErrors(error: z.core.$ZodError, part = 'body'): FieldError[] {
  return error.issues.slice(0, mostErrors).flatMap((issue) => {
    const path = issue.path.map(String)
    if (issue.code === 'unrecognized_keys') {
      return issue.keys
        .slice(0, mostErrors)
        .map((key) => ({ field: [...path, key].join('.'), message: 'Unknown field' }))
    }
    return [{ field: path.join('.') || part, message: issue.message }]
  })
}

/** Values that a schema refused. */
export function invalidProblem(error: z.core.$ZodError, part?: string): Problem {
  const errors = fieldErrors(error, part)
  const [first] = errors
  return problem(422, first ? `${first.field}: ${first.message}` : 'The request is not valid', errors)
}

/** The one mapping of anything thrown to what the caller is told. */
export function problemOf(error: unknown): Problem {
  if (error instanceof AppError) {
    const errors = error.field === undefined ? [] : [{ field: error.field, message: error.message }]
    return problem(statuses[error.code], error.message, errors)
  }
  if (error instanceof z.core.$ZodError) {
    return invalidProblem(error, (error as { validationContext?: string }).validationContext)
  }
  if (mayPass(error)) return problem(503, 'The database does not answer: ask again shortly')
  // Class 22: a value that passed every schema and still can't be stored.
  if (pgErrorOf(error)?.code?.startsWith('22')) return problem(422, 'A value of the request cannot be stored')
  const { code, statusCode, message } = error as Partial<FastifyError>
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return problem(415, 'Send JSON as application/json')
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return problem(413, 'The body is too large')
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) return problem(statusCode, message ?? '')
  return problem(500, 'Something went wrong here; the log has it under the id in x-request-id')
}

/** Answers with a problem. */
export function sendProblem(reply: FastifyReply, body: Problem): FastifyReply {
  if (body.status === 503) reply.header('retry-after', '2')
  return reply.code(body.status).type(problemType).serializer(JSON.stringify).send(body)
}

/** Fastify's error handler: a problem for the caller, a log line for what is our fault. */
export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const body = problemOf(error)
  // Drizzle's wrapper repeats the statement with its values, which are the caller's.
  const err = error instanceof DrizzleQueryError ? error.cause : error
  if (body.status >= 500) request.log[body.status === 503 ? 'warn' : 'error']({ err }, 'request failed')
  void sendProblem(reply, body)
}
