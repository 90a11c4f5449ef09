import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { findWebhook, type WebhookRow } from '../../db/queries/webhooks.ts'
import { AppError } from '../../errors.ts'
import type { AppDeps } from '../deps.ts'
import { answer, problems } from '../openapi.ts'
import { idParams, webhookBody } from '../schemas.ts'

/** A URL for showing: what may hold a secret (user, password, query, fragment) is left out. Any text is taken. */
const publicUrl = (url: string) => url.replace(/[?#].*$/s, '').replace(/^([a-z][a-z\d+.-]*:)?([/\\]*)[^/\\]*@/i, '$1$2')

function healthOf({ isActive, disabledAt, failingSince }: WebhookRow) {
  if (!isActive) return disabledAt ? 'disabled' : 'off'
  return failingSince ? 'failing' : 'healthy'
}

/** A webhook as it is shown, without what may be secret. */
export function viewWebhook(row: WebhookRow) {
  const { isActive, targetUrl, ...known } = row
  // Switched on again since: what was before counts no more, although that is noted only at the next attempt.
  const isAnew = isActive === true && known.disabledAt !== null
  const rest = isAnew ? { ...known, failingSince: null, disabledAt: null, disabledReason: null } : known
  return {
    ...rest,
    targetUrl: publicUrl(targetUrl),
    active: isActive === true,
    health: healthOf({ ...row, ...rest }),
  } as const
}

/** How a webhook fares. */
export const webhookRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    app.get(
      '/webhooks/:id',
      {
        schema: {
          tags: ['webhooks'],
          operationId: 'getWebhook',
          summary: 'A webhook and how it fares',
          params: idParams('webhook'),
          response: { 200: answer('As it stands.', webhookBody), ...problems(404) },
        },
      },
      async ({ params: { id } }) => {
        const row = await findWebhook(deps.db, id)
        if (!row) throw new AppError('not_found', `There is no webhook ${id}`)
        return viewWebhook(row)
      },
    )
  }
