import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { isToRing } from '../../db/queries/enqueue.ts'
import { acceptPush, type AcceptedPush } from '../../db/queries/sync/pushes.ts'
import { AppError, messageOf } from '../../errors.ts'
import { unstorable } from '../body.ts'
import type { AppDeps } from '../deps.ts'
import { stateOf } from '../items.ts'
import { answer, problems } from '../openapi.ts'
import { enqueuedJobBody, erpPushBody } from '../schemas.ts'
import { createVerifier } from '../signed.ts'

const decoder = new TextDecoder('utf-8', { fatal: true })

/** Reads a body whose very bytes are signed. */
function readJson(body: Buffer): unknown {
  try {
    return JSON.parse(decoder.decode(body))
  } catch (error) {
    throw new AppError('bad_request', `The body is not JSON in UTF-8: ${messageOf(error)}`)
  }
}

/** No key is asked for here, so none can lack a scope. */
function unsigned({ 403: _, ...refusals }: ReturnType<typeof problems>) {
  return {
    ...refusals,
    401: { ...refusals[401], description: 'It is not signed, or not with a secret that is known.' },
  }
}

function viewPush(accepted: AcceptedPush) {
  if (accepted.kind === 'accepted') {
    const { workId, job, state, delayMs } = accepted.item
    return { jobId: String(workId), state: stateOf({ state, due: delayMs === 0 }), href: `/v1/jobs/${job}/${workId}` }
  }
  const { job, workId, item } = accepted
  // Items are kept for a week after their end.
  return {
    jobId: String(workId),
    state: item ? stateOf(item) : 'completed',
    href: `/v1/jobs/${job}/${workId}`,
  } as const
}

/** `POST /v1/erp/changes`: what an ERP pushes; it signs, and has no key. */
export const erpRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    const verify = createVerifier(deps.erpSecret)
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
    app.addHook('onRequest', async (_, reply) => void reply.header('cache-control', 'no-store'))
    app.post(
      '/erp/changes',
      {
        // What is in the body is asked below, once its signature is.
        validatorCompiler: () => (value) => ({ value }),
        schema: {
          tags: ['erp'],
          operationId: 'acceptErpChanges',
          summary: 'Hear from an ERP what has changed',
          description:
            'Signed as [Standard Webhooks](https://www.standardwebhooks.com) with a secret of `ERP_WEBHOOK_SECRET`; the `webhook-timestamp` may be five minutes off. What is named is read from the ERP soon, together with what other messages name until then; ids that the shop does not know, or nothing named, mean everything that changed since the last run. The same `webhook-id` again gets the same answer, with `idempotent-replayed: true`, and has no effect.',
          security: [{ erp: [] }],
          body: erpPushBody,
          response: {
            202: answer('Committed; `Location` says where to follow it.', enqueuedJobBody),
            ...unsigned(problems(400, 409, 413, 415, 422)),
          },
        },
      },
      async (request, reply) => {
        const raw: unknown = request.body
        const body = Buffer.isBuffer(raw) ? raw : Buffer.alloc(0)
        const { id } = verify(request.headers, body)
        const push = erpPushBody.parse(readJson(body))
        const found = unstorable(push)
        if (found) throw new AppError('invalid', found.message, { field: found.field })
        const rung = deps.bell.ready()
        const accepted = await acceptPush(deps.db, id, push, { rung })
        if (accepted.kind === 'accepted' && rung && isToRing(accepted.item)) deps.bell.ring([accepted.item])
        if (accepted.kind === 'replayed') reply.header('idempotent-replayed', 'true')
        const response = viewPush(accepted)
        return reply.code(202).header('location', response.href).send(response)
      },
    )
  }
