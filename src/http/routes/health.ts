import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { isLed } from '../../work/leader.ts'
import type { AppDeps } from '../deps.ts'
import { answer } from '../openapi.ts'
import { readinessBody } from '../schemas.ts'

const probeMs = 1_000

/** Whether someone dispatches; null when the database doesn't say so in time. */
async function askProgress({ db, log }: AppDeps): Promise<boolean | null> {
  let late: NodeJS.Timeout | undefined
  const timeout = new Promise<null>((resolve) => {
    late = setTimeout(resolve, probeMs, null)
  })
  const asked = isLed(db).catch((error: unknown) => {
    log.debug({ err: error }, 'readiness probe failed')
    return null
  })
  return Promise.race([asked, timeout]).finally(() => clearTimeout(late))
}

const word = (fine: boolean) => (fine ? 'ok' : 'down')

/** What load balancers and monitoring ask, without a key. */
export const healthRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    app.get(
      '/healthz',
      {
        schema: {
          tags: ['health'],
          operationId: 'isAlive',
          summary: 'Whether the process answers',
          security: [],
          response: { 200: answer('It does.', z.object({ status: z.literal('ok') })) },
        },
      },
      async () => ({ status: 'ok' as const }),
    )

    app.get(
      '/readyz',
      {
        schema: {
          tags: ['health'],
          operationId: 'isReady',
          summary: 'Whether it accepts work',
          description:
            'It does as long as Postgres answers. `degraded`: work is accepted and kept, but the queue is away or no worker dispatches.',
          security: [],
          response: {
            200: answer('It does.', readinessBody),
            503: answer('Postgres is away, or the process is shutting down.', readinessBody),
          },
        },
      },
      async (_, reply) => {
        const led = await askProgress(deps)
        const postgres = led !== null
        const checks = {
          postgres: word(postgres),
          queue: word(deps.queueReady()),
          progress: word(led === true),
        } as const
        if (!postgres || deps.shuttingDown()) return reply.code(503).send({ status: 'unavailable', checks })
        const fine = checks.queue === 'ok' && checks.progress === 'ok'
        return { status: fine ? ('ok' as const) : ('degraded' as const), checks }
      },
    )

    app.get(
      '/metrics',
      {
        schema: {
          tags: ['health'],
          operationId: 'getMetrics',
          summary: 'Metrics for Prometheus',
          security: [],
          response: { 200: { description: 'Text of Prometheus.', content: { 'text/plain': { schema: z.string() } } } },
        },
      },
      async (_, reply) =>
        reply
          .type(deps.metrics.contentType)
          .serializer(String)
          .send(await deps.metrics.render()),
    )
  }
