import { createBullBoard } from '@bull-board/api'
import { FastifyAdapter } from '@bull-board/fastify'
import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import type { QueueBackend } from '../work/backend.ts'
import type { Bell } from '../work/bell.ts'
import { createBoardAccess, type BoardUser } from './board/access.ts'
import { createBoardActions } from './board/actions.ts'
import { withOwnLook, stylesheet, wordsOf } from './board/look.ts'
import { createQueueAdapter } from './board/queue-adapter.ts'
import { withTransitions } from './board/routes.ts'
import { serverOf } from './board/server.ts'

export interface BoardDeps {
  db: Db
  bell: Bell
  backend: QueueBackend
  /** The queues to show, in this order. */
  jobs: readonly JobDefinition[]
  /** Who may open it; nobody means `open` decides. */
  users: readonly BoardUser[]
  /** True when the API listens on loopback only: without users, whoever reaches it may act. */
  open: boolean
  log: Logger
}

const headers = {
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  // Nothing is loaded from elsewhere, and no other page can frame the board and borrow a click.
  'content-security-policy':
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
}

// Readable both as a problem of the API and by the board's page.
function refuse(reply: FastifyReply, status: number, title: string, detail: string) {
  return reply
    .code(status)
    .type('application/problem+json')
    .send({ type: 'about:blank', title, status, detail, error: title, message: detail })
}

/** Bull Board over every queue; register it with `prefix: '/admin/queues'`. Its changes are those of work items. */
export function createBoard(deps: BoardDeps): FastifyPluginAsync {
  return async (app) => {
    const access = createBoardAccess(deps)
    const actions = createBoardActions(deps)
    const adapter = new FastifyAdapter()
    const server = serverOf(adapter, {
      routes: (routes) => withTransitions(routes, actions, (request) => access.identify(request.headers)?.name ?? ''),
      failed: (error) => deps.log.error({ err: error }, 'the board could not answer'),
    })
    createBullBoard({
      queues: deps.jobs.map((job) => createQueueAdapter(deps, job)),
      serverAdapter: server,
      options: {
        uiConfig: {
          boardTitle: 'website-worker',
          hideDocsLink: true,
          sortQueues: false,
          showMetrics: false,
          miscLinks: [{ text: 'API reference', url: '/docs' }],
        },
      },
    })

    app.addHook('onRequest', async (request, reply) => {
      reply.headers(headers)
      if (!request.url.startsWith(`${app.prefix}/static/`)) reply.header('cache-control', 'no-store')
      const refused = access.refuse(request)
      if (refused?.status === 401) reply.header('www-authenticate', 'Basic realm="website-worker", charset="UTF-8"')
      if (refused) return refuse(reply, refused.status, refused.title, refused.detail)
      if (request.url.startsWith(`${app.prefix}/api/`) && !deps.backend.ready()) {
        return refuse(reply, 503, 'The queue is away', 'Work is accepted meanwhile and rung when the queue is back.')
      }
    })
    app.addHook('preSerialization', async (request, _reply, payload) => {
      const queues = (payload as { queues?: object[] } | null)?.queues
      if (!queues || access.identify(request.headers)?.access === 'rw') return payload
      return {
        queues: queues.map((queue) => ({
          ...queue,
          readOnlyMode: true,
          allowRetries: false,
          allowCompletedRetries: false,
        })),
      }
    })
    app.addHook('onSend', async (_request, reply, payload) =>
      typeof payload === 'string' && `${reply.getHeader('content-type')}`.startsWith('text/html')
        ? withOwnLook(payload)
        : payload,
    )

    app.get('/board.css', { schema: { hide: true } as object }, async (_request, reply) =>
      reply.type('text/css').send(stylesheet),
    )
    app.get<{ Params: { language: string } }>(
      '/static/locales/:language/messages.json',
      { schema: { hide: true } as object },
      async (request, reply) => {
        const words = await wordsOf(server.staticPath(), request.params.language)
        return words
          ? reply.send(words)
          : refuse(reply, 404, 'No such language', `The board doesn't speak "${request.params.language}".`)
      },
    )
    await app.register(adapter.setBasePath(app.prefix).registerPlugin())
  }
}
