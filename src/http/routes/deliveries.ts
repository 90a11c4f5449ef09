import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import type { z } from 'zod'
import {
  findDelivery,
  listAttempts,
  listDeliveries,
  type Delivery,
  type DeliveryFilter,
} from '../../db/queries/deliveries.ts'
import { siteExists, webhookExists } from '../../db/queries/webhooks.ts'
import { AppError } from '../../errors.ts'
import { noBody } from '../body.ts'
import { readCursor, writeCursor } from '../cursor.ts'
import type { AppDeps } from '../deps.ts'
import { answer, problems } from '../openapi.ts'
import { deliveryDetailBody, deliveryPageBody, deliveryQuery, idParams } from '../schemas.ts'
import { cancelDelivery, resendDelivery } from '../webhook-actions.ts'

const viewDelivery = ({ workId, ...delivery }: Delivery) => ({
  ...delivery,
  jobId: workId === null ? null : String(workId),
})

/** The delivery ledger: of a webhook, of a site, one by one. */
export const deliveryRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    async function find(id: number): Promise<Delivery> {
      const delivery = await findDelivery(deps.db, id)
      if (!delivery) throw new AppError('not_found', `There is no delivery ${id}`)
      return delivery
    }

    async function detail(id: number) {
      const [delivery, attemptLog] = await Promise.all([find(id), listAttempts(deps.db, id)])
      return { ...viewDelivery(delivery), attemptLog }
    }

    async function page(of: DeliveryFilter['of'], query: z.output<typeof deliveryQuery>) {
      const { status, cursor, limit = 50 } = query
      const before = cursor === undefined ? undefined : readCursor(cursor)
      const { items, next } = await listDeliveries(deps.db, { of, status, before, limit })
      return { items: items.map(viewDelivery), nextCursor: next === null ? null : writeCursor(next) }
    }

    for (const owner of ['webhook', 'site'] as const) {
      app.get(
        `/${owner}s/:id/deliveries`,
        {
          schema: {
            tags: ['deliveries'],
            operationId: `list${owner === 'webhook' ? 'Webhook' : 'Site'}Deliveries`,
            summary: `Deliveries of a ${owner}, newest first`,
            description:
              'Go on while there is a `nextCursor`: with a `status`, a page may hold fewer items than `limit`, or none, although more follow.',
            params: idParams(owner),
            querystring: deliveryQuery,
            response: { 200: answer('A page.', deliveryPageBody), ...problems(404, 422) },
          },
        },
        async ({ params: { id }, query }) => {
          const there = await (owner === 'webhook' ? webhookExists(deps.db, id) : siteExists(deps.db, id))
          if (!there) throw new AppError('not_found', `There is no ${owner} ${id}`)
          return page(owner === 'webhook' ? { webhookId: id } : { siteId: id }, query)
        },
      )
    }

    app.get(
      '/deliveries/:id',
      {
        schema: {
          tags: ['deliveries'],
          operationId: 'getDelivery',
          summary: 'A delivery and its requests',
          params: idParams('delivery'),
          response: { 200: answer('As it stands.', deliveryDetailBody), ...problems(404) },
        },
      },
      async ({ params: { id } }) => detail(id),
    )

    for (const action of ['retry', 'cancel'] as const) {
      app.post(
        `/deliveries/:id/${action}`,
        {
          config: { scope: 'ops' },
          schema: {
            tags: ['deliveries'],
            operationId: `${action}Delivery`,
            summary: action === 'retry' ? 'Send it again, or now' : "Don't send it",
            description:
              action === 'retry'
                ? 'Also for one that was delivered: the receiver sees the same `webhook-id` and may drop it.'
                : 'Ends a delivery that is pending or held. A request under way still completes.',
            params: idParams('delivery'),
            body: noBody,
            response: { 200: answer('As it stands now.', deliveryDetailBody), ...problems(404, 409, 415, 422) },
          },
        },
        async ({ params: { id }, principal }) => {
          const delivery = await find(id)
          await (action === 'retry' ? resendDelivery(deps, delivery) : cancelDelivery(deps, delivery, principal.name))
          return detail(id)
        },
      )
    }
  }
