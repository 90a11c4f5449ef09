import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import type { FastifyReply } from 'fastify'
import type { WebhookJob } from '../../db/queries/webhook-jobs.ts'
import { noBody } from '../body.ts'
import type { AppDeps } from '../deps.ts'
import { stateOf } from '../items.ts'
import { answer, problems } from '../openapi.ts'
import { cancelledBody, enqueuedJobBody, idParams, replayBody } from '../schemas.ts'
import { askPing, askReplay, cancelPending } from '../webhook-actions.ts'

/** How long one call cancels before it answers that there is more. */
const cancelBudgetMs = 5_000

const accepted = answer('Committed; `Location` says where to follow it.', enqueuedJobBody)

function sendAccepted(reply: FastifyReply, { job, workId, state, delayMs }: WebhookJob) {
  const href = `/v1/jobs/${job}/${workId}`
  reply.code(202).header('location', href)
  return { jobId: String(workId), state: stateOf({ state, due: delayMs === 0 }), href }
}

/** Sending a webhook's deliveries again, testing it, and calling off what waits for it. */
export const webhookActionRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    app.post(
      '/webhooks/:id/replay',
      {
        config: { scope: 'ops' },
        schema: {
          tags: ['webhooks'],
          operationId: 'replayWebhook',
          summary: 'Send deliveries of a span of time again',
          description: `Owes them again from their first attempt, at most 500 ahead of the receiver, so that new events don't wait behind them. A delivery that is pending is left alone; one that was delivered stays so, whatever becomes of its replay. The receiver sees the same \`webhook-id\` as before.

\`status\` is one of \`failed\` (the default), \`held\`, \`cancelled\` and \`delivered\`. Deliveries whose event's body is no longer kept are skipped.

Follow it under \`href\`: \`progress\` is \`{total, replayed, percent}\`, \`result\` \`{total, replayed, skipped}\`. \`POST …/cancel\` there ends it. Asked again before it is done, the same job is answered; without an \`until\` its window ends where it did when it was first asked for.`,
          params: idParams('webhook'),
          body: replayBody,
          response: { 202: accepted, ...problems(400, 404, 409, 413, 415, 422) },
        },
      },
      async ({ params: { id }, body }, reply) => sendAccepted(reply, await askReplay(deps, id, body)),
    )

    app.post(
      '/webhooks/:id/ping',
      {
        config: { scope: 'ops' },
        schema: {
          tags: ['webhooks'],
          operationId: 'pingWebhook',
          summary: 'Send a test message',
          description: `One signed \`{type: "webhook.ping", timestamp, siteId, data: {webhookId}}\`, also to a webhook that is off. It is no event: it has no row in the ledger, is not tried again, and says nothing of the webhook's health.

The job under \`href\` has the outcome as its \`result\`: \`{ok, statusCode, durationMs, error, keyEncoding, signatures}\`. A secret that can't sign makes the job \`failed\`, with the reason.`,
          params: idParams('webhook'),
          body: noBody,
          response: { 202: accepted, ...problems(404, 415, 422) },
        },
      },
      async ({ params: { id } }, reply) => sendAccepted(reply, await askPing(deps, id)),
    )

    app.post(
      '/webhooks/:id/cancel-pending',
      {
        config: { scope: 'ops' },
        schema: {
          tags: ['webhooks'],
          operationId: 'cancelPendingDeliveries',
          summary: "Don't send what waits for it",
          description:
            'Ends every delivery of the webhook that is pending or held, and replays of it that are under way. A request under way still completes. Cancelled deliveries can be replayed.',
          params: idParams('webhook'),
          body: noBody,
          response: { 200: answer('Cancelled.', cancelledBody), ...problems(404, 415, 422) },
        },
      },
      async ({ params: { id }, principal }) => cancelPending(deps, id, principal.name, cancelBudgetMs),
    )
  }
