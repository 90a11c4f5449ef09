import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { AppError, messageOf } from '../errors.ts'

/** The body of a call that takes none. */
export const noBody = z.strictObject({}).nullish()

/**
 * Reads bodies as JSON in UTF-8 and as nothing else. A `__proto__` in it stays a field like any other: no schema of ours
 * names it, and nothing merges a body into an object.
 */
export function readJsonBodies(app: FastifyInstance): void {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const encoding = request.headers['content-encoding']
    if (encoding !== undefined && encoding !== 'identity') {
      return done(Object.assign(new Error('Compressed bodies are not read'), { statusCode: 415 }))
    }
    if (body.length === 0) return done(null, undefined)
    try {
      done(null, JSON.parse(decoder.decode(body as Buffer)))
    } catch (error) {
      done(new AppError('bad_request', `The body is not JSON in UTF-8: ${messageOf(error)}`))
    }
  })
  app.addHook('preValidation', async (request) => {
    const { schema } = request.routeOptions
    if (request.body === undefined && schema?.body !== undefined && schema.body !== noBody) {
      throw new AppError('bad_request', 'A JSON body is required')
    }
  })
}

/** The first place in a value that a `jsonb` column can't hold, as a path; `""` for the value itself. */
export function unstorable(value: unknown, path = '', depth = 0): { field: string; message: string } | undefined {
  if (typeof value === 'string') {
    if (value.includes('\u0000')) return { field: path, message: 'Contains a NUL character' }
    if (/\p{Surrogate}/u.test(value)) return { field: path, message: 'Contains half of a surrogate pair' }
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  if (depth === 50) return { field: path, message: 'Nested deeper than 50 levels' }
  for (const [key, inner] of Object.entries(value)) {
    const at = path ? `${path}.${key}` : key
    const found = unstorable(key, at) ?? unstorable(inner, at, depth + 1)
    if (found) return found
  }
  return undefined
}
