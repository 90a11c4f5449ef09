import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { z } from 'zod'
import { AppError } from '../errors.ts'
import { guardWithKeys } from './auth.ts'
import { readJsonBodies } from './body.ts'
import type { AppDeps } from './deps.ts'
import { answerUnknownRoutes } from './methods.ts'
import { describeApi } from './openapi.ts'
import { handleError, problem, problemType } from './problem.ts'
import { deliveryRoutes } from './routes/deliveries.ts'
import { erpRoutes } from './routes/erp.ts'
import { eventRoutes } from './routes/events.ts'
import { healthRoutes } from './routes/health.ts'
import { jobRoutes } from './routes/jobs.ts'
import { originRoutes } from './routes/origins.ts'
import { siteRoutes } from './routes/sites.ts'
import { syncRoutes } from './routes/sync.ts'
import { webhookActionRoutes } from './routes/webhook-actions.ts'
import { webhookRoutes } from './routes/webhooks.ts'

const requestIdPattern = /^[\w.:-]{1,64}$/

// Headers never reach the log by our own hand; this keeps them out where a library logs a request.
const redact = ['authorization', 'cookie'].flatMap((name) =>
  ['', 'headers.', 'req.headers.', 'request.headers.'].map((at) => `${at}${name}`),
)

/** Builds the API without listening. */
export async function createApp(deps: AppDeps): Promise<FastifyInstance> {
  const app: FastifyInstance = fastify({
    loggerInstance: deps.log.child({}, { redact }) as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: ({ headers: { 'x-request-id': given } }) =>
      typeof given === 'string' && requestIdPattern.test(given) ? given : randomUUID(),
    bodyLimit: 1_048_576,
    requestTimeout: 30_000,
    // Longer than the usual load balancer's 60 s, so that it is never the server that closes first.
    keepAliveTimeout: 72_000,
    http: { maxHeaderSize: 16_384, headersTimeout: 20_000 },
    routerOptions: { maxParamLength: 300 },
    frameworkErrors: (error, request, reply) => handleError(error, request, reply as never),
    clientErrorHandler: answerBrokenRequest,
  })
  app.setErrorHandler(handleError)
  const answerUnknownRoute = answerUnknownRoutes(app)
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({ 'x-request-id': request.id, 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' })
    // Before anyone reads the body of a call that leads nowhere.
    if (request.is404) return answerUnknownRoute(request, reply)
  })
  app.addHook('onResponse', async (request, reply) => {
    const { method, principal } = request
    const health = request.routeOptions.schema?.tags?.includes('health') === true
    request.log[health ? 'debug' : 'info'](
      {
        method,
        // Without the query, which is the caller's.
        path: request.url.split('?', 1)[0],
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime * 10) / 10,
        ...(principal && { key: principal.name }),
      },
      'request',
    )
  })

  await describeApi(app, deps.version)
  await app.register(async (open) => {
    compileWithZod(open)
    await open.register(healthRoutes(deps))
    // Whoever calls this one signs, and has no key.
    await open.register(erpRoutes(deps), { prefix: '/v1' })
    await open.register(
      async (v1) => {
        guardWithKeys(v1, deps.apiKeys)
        readJsonBodies(v1)
        v1.addHook('onRequest', async (_, reply) => void reply.header('cache-control', 'no-store'))
        for (const routes of [
          eventRoutes,
          jobRoutes,
          webhookRoutes,
          webhookActionRoutes,
          deliveryRoutes,
          originRoutes,
          siteRoutes,
          syncRoutes,
        ]) {
          await v1.register(routes(deps))
        }
      },
      { prefix: '/v1' },
    )
  })
  if (deps.board) await app.register(deps.board, { prefix: '/admin/queues' })
  await app.ready()
  return app
}

/** Validates with the routes' zod schemas; answers are typed by theirs and written as they are. */
function compileWithZod(app: FastifyInstance): void {
  app.setValidatorCompiler<z.ZodType>(({ schema, httpPart }) => (data) => {
    const { success, data: value, error } = schema.safeParse(data)
    if (success) return { value }
    // What is in the path and can't be an id names nothing.
    return { error: httpPart === 'params' ? new AppError('not_found', 'There is nothing of that id') : error }
  })
  app.setSerializerCompiler(() => JSON.stringify)
}

/** Answers what isn't HTTP, or took too long or too much, before a request came of it. */
function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy()
  const [status, detail] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? [431, 'The headers are longer than 16 KiB']
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? [408, 'The request took too long to arrive']
        : [400, 'This is not HTTP']
  const body = problem(status as number, detail as string)
  const text = JSON.stringify(body)
  socket.end(
    `HTTP/1.1 ${body.status} ${body.title}\r\ncontent-type: ${problemType}\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
  )
}
