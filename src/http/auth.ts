import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { AppError } from '../errors.ts'
import type { ApiKey, Scope } from './deps.ts'

/** Who asks. */
export interface Principal {
  name: string
  scopes: readonly Scope[]
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Set for every call under `/v1`. */
    principal: Principal
  }
  interface FastifyContextConfig {
    /** What a key needs for this route. Default: any key will do. */
    scope?: Scope
  }
}

const digest = (text: string) => createHash('sha256').update(text).digest()

/** Finds the key of an `Authorization` header. Every key is compared, as digests, so the time taken tells nothing. */
export function createAuthenticator(apiKeys: readonly ApiKey[]): (header: string | undefined) => Principal | undefined {
  const keys = apiKeys.map(({ name, secret, scopes }) => ({ principal: { name, scopes }, digest: digest(secret) }))
  return (header) => {
    const token = /^bearer +(\S+) *$/i.exec(header ?? '')?.[1]
    const given = digest(token ?? '')
    let found: Principal | undefined
    for (const key of keys) if (timingSafeEqual(key.digest, given)) found = key.principal
    return token === undefined ? undefined : found
  }
}

/** @throws AppError `forbidden` */
export function requireScope(principal: Principal, scope: Scope): void {
  if (principal.scopes.includes(scope)) return
  throw new AppError('forbidden', `The key "${principal.name}" lacks the scope "${scope}"`)
}

/** Asks every route of `app` for a key, and for the scope it names in its config. */
export function guardWithKeys(app: FastifyInstance, apiKeys: readonly ApiKey[]): void {
  const authenticate = createAuthenticator(apiKeys)
  app.addHook('onRequest', async (request, reply) => {
    const { authorization } = request.headers
    const principal = authenticate(authorization)
    if (!principal) {
      const why = authorization === undefined ? '' : ', error="invalid_token"'
      reply.header('www-authenticate', `Bearer realm="website-worker"${why}`)
      throw new AppError('unauthorized', 'Send a key: Authorization: Bearer <secret>')
    }
    request.principal = principal
    const { scope } = request.routeOptions.config
    if (!scope || principal.scopes.includes(scope)) return
    reply.header('www-authenticate', `Bearer realm="website-worker", error="insufficient_scope", scope="${scope}"`)
    requireScope(principal, scope)
  })
}
