import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { eventBatchSchema } from '../../client/schemas.ts'
import { acceptEach } from '../accept.ts'
import { createAcceptor } from '../acceptor.ts'
import type { AppDeps } from '../deps.ts'
import { answer, problems } from '../openapi.ts'
import { acceptedEventBody, batchResultBody, newEventBody } from '../schemas.ts'

const batchBody = eventBatchSchema.meta({
  examples: [{ events: [{ siteId: 1, event: 'customer.created', data: { customerId: 12 } }] }],
})

/** `POST /v1/events` and its batch. */
export const eventRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    const acceptOne = createAcceptor(deps)
    app.post(
      '/events',
      {
        config: { scope: 'enqueue' },
        schema: {
          tags: ['events'],
          operationId: 'acceptEvent',
          summary: 'Accept an event',
          description:
            'Commits the event and one delivery for each webhook of the site that listens to it. Under an `id` of yours it is safe to ask again: the same event gets the same answer, with `idempotent-replayed: true`; another event under that id is a 409.',
          body: newEventBody,
          response: { 202: answer('Committed.', acceptedEventBody), ...problems(400, 409, 413, 415, 422) },
        },
      },
      async (request, reply) => {
        const { outcome, answer } = await acceptOne(request.body)
        if (outcome === 'replayed') reply.header('idempotent-replayed', 'true')
        return reply.code(202).send(answer)
      },
    )

    app.post(
      '/events/batch',
      {
        bodyLimit: 8 * 1_048_576,
        config: { scope: 'enqueue' },
        schema: {
          tags: ['events'],
          operationId: 'acceptEvents',
          summary: 'Accept up to 1,000 events',
          description:
            'Judges each event by itself and commits the valid ones together. `results` are in the order of `events`; each has the `status` that the event alone would have got, and its `problem` if there was one.',
          body: batchBody,
          response: { 200: answer('One result for each event.', batchResultBody), ...problems(400, 413, 415, 422) },
        },
      },
      async (request) => ({ results: await acceptEach(deps, request.body.events) }),
    )
  }
