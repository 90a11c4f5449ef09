import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { problem, sendProblem } from './problem.ts'

/** Answers for unknown paths with 404, and for known ones asked with another method with 405 and what they allow. */
export function answerUnknownRoutes(
  app: FastifyInstance,
): (request: FastifyRequest, reply: FastifyReply) => FastifyReply {
  const known: { pattern: RegExp; methods: string[] }[] = []
  app.addHook('onRoute', ({ url, method }) => {
    if (url.includes('*')) return
    const pattern = new RegExp(`^${url.replaceAll(/[.]/g, '\\.').replaceAll(/:\w+/g, '[^/]+')}$`)
    known.push({ pattern, methods: [method].flat() })
  })
  return (request, reply) => {
    const path = request.url.split('?', 1)[0] ?? ''
    const allowed = [...new Set(known.filter((route) => route.pattern.test(path)).flatMap((route) => route.methods))]
    if (allowed.length === 0) return sendProblem(reply, problem(404, `There is nothing at ${path}`))
    reply.header('allow', allowed.join(', '))
    return sendProblem(reply, problem(405, `${request.method} is not possible here; ${allowed.join(', ')} is`))
  }
}
